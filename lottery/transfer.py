"""Tickets of another run, on other data or by another optimiser. Read `train_tickets` first.

Source: Morcos et al., arXiv:1906.02773. As there, what depends on the number of classes is left out
of the ticket where it does not fit: it is drawn as an ordinary run of this config draws it, and all
of it is kept. With the seed and the number of classes of the source, that is how the source's was
drawn. Departs: the paper prunes with a global scope and rewinds to the first epoch; here the
config of the source run decides.
"""

# R replicates

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from groundwork import copies, trees
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import checkpoint, identity, trained
from groundwork.runs.run import Run
from groundwork.train.step import TrainState
from groundwork.trees import Shapes, Variables
from lottery.ticket_section import TicketSpec
from lottery.tickets import Levels, Start, Ticket, initial, train_unit, unit_name
from pruning import masks
from pruning.masks import Mask

Head = Mapping[str, tuple[int, ...]]  # path of a leaf → its axes that depend on the classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """What a run takes of another, and the network that takes it.

    Attributes:
      spec: the config's section.
      levels: those that are trained, 0 among them.
      replicates: R.
      shapes: of the network's variables, without the replicate axis.
      prunable: the paths of a mask.
      head: see `head`.
    """

    spec: TicketSpec
    levels: Sequence[int]
    replicates: int
    shapes: Shapes
    prunable: Sequence[str]
    head: Head


class Brought(NamedTuple):
    """A level of the other run, as the network takes it: on the host, leaves [R, …]."""

    mask: Mask
    rewound: Variables
    requested: dict[str, float]  # see `Plan.requested`
    replaced: list[str]  # paths of the variables that are drawn anew


def head(shapes: Shapes, more: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the leaves of a network that depend on the number of classes → their axes that do.

    Args:
      shapes: of the network's variables.
      more: of the same network for one class more; empty if targets are no classes.
    """
    flat = trees.flatten(more)
    axes = {}
    for path, leaf in trees.flatten(shapes).items():
        there = flat[path].shape if path in flat else leaf.shape
        if differing := [
            i for i, (a, b) in enumerate(zip(leaf.shape, there, strict=True)) if a - b
        ]:
            axes[path] = tuple(differing)
    return axes


def check(taken: Taken) -> None:
    """Checks that the source has all levels, and that they fit the network.

    Raises:
      UserError: the source does not exist, is damaged, or lacks a level; or names, shapes or the
        number of replicates differ. The error names `ticket.source`.
    """
    shapes = {path: (taken.replicates, *x.shape) for path, x in trees.flatten(taken.shapes).items()}
    zeros = {path: np.zeros(shapes[path], np.float32) for path in taken.head}
    for level in taken.levels:
        bring(taken, level, zeros)


def train_tickets(
    levels: Levels,
    taken: Taken,
    train_branch: Callable[[Levels, str, int, Ticket, TrainState], None],
) -> None:
    """Trains the source's tickets from the dense network to the last level, with all controls.

    Nothing is pruned. Each level has the mask and the rewound weights of the source's level, and
    is trained from `rewind.step` of this run's schedule, with fresh moments. Controls take the
    source's rewound dense weights where those of an ordinary run take their own.

    Args:
      levels: of the run.
      taken: what it takes.
      train_branch: see `tickets.find_tickets`.

    Raises:
      UserError: see `check`; or the source is another run than when this one began.
    """
    context, run, network = levels.context, levels.context.run, levels.network
    done = frozenset(processes.on_first(run.units))
    drawn = initial(levels)
    fresh = {path: leaf for path, leaf in trees.flatten(drawn).items() if path in taken.head}
    fresh = mesh_lib.fetch(fresh)
    point = _begin(levels, taken, drawn, fresh)
    like = Ticket(network.ones(drawn["params"]), point.variables, point.variables)
    for level in taken.levels:
        branches = [name for name, chosen in levels.branches.items() if level in chosen]
        branches = [name for name in branches if unit_name(level, name) not in done]
        if unit_name(level, "ticket") in done:
            if not branches:
                continue
            found, metadata = run.unit(unit_name(level, "ticket")).result(tuple(like))
            ticket = Ticket(*found)
            here = dataclasses.replace(levels, requested=metadata["requested"])
        else:
            _check_same(levels, taken)
            brought = bring(taken, level, fresh)
            here = dataclasses.replace(levels, requested=brought.requested)
            mask, rewound = context.put((brought.mask, brought.rewound))
            state = network.start(rewound, mask, step=levels.rewind_step)
            ticket = train_unit(
                here, "ticket", level, Start(network=network, mask=mask, state=state)
            )
        for branch in branches:
            train_branch(here, branch, level, ticket, point)


def bring(taken: Taken, level: int, fresh: Mapping[str, Any]) -> Brought:
    """Returns a level of the source, checked against the network that takes it.

    Args:
      taken: what is taken.
      level: the level.
      fresh: path → [R, …], for the leaves of `head`.

    Raises:
      UserError: see `check`.
    """
    source, unit = taken.spec.source, _unit(taken, level)
    with about("ticket.source", UserError):
        (mask, rewound, _), metadata = _read(taken, unit)
        where = f"{unit} of {source}"
        given = trees.flatten(rewound)
        _check_replicates(given, taken.replicates, where)
        replaced = _replaced(taken, given)
        given |= {path: fresh[path] for path in replaced}
        rewound = trained.replicated(given, taken.shapes, taken.replicates, where)
        mask, requested = dict(mask), dict(metadata["requested"])
        for name in [path.removeprefix("params/") for path in replaced]:
            if name in mask:
                mask[name] = np.ones(given[f"params/{name}"].shape, bool)
                requested[masks.layer_of(name)] = 1.0
        _check_mask(taken, mask, where)
    return Brought(mask, rewound, requested, replaced)


def _begin(levels: Levels, taken: Taken, drawn: Variables, fresh: Mapping[str, Any]) -> TrainState:
    """Returns the state of the source's rewound dense network (unit `start`)."""
    context, network, unit = levels.context, levels.network, levels.context.run.unit("start")
    step, dense = levels.rewind_step, levels.network.ones(drawn["params"])
    if processes.on_first(lambda: unit.done):
        return unit.result(network.start(drawn, dense, step=step))[0]
    context.reporter.begin(unit.name, step, step)
    brought = bring(taken, 0, fresh)
    if brought.replaced:
        listed = ", ".join(brought.replaced)
        context.reporter.say(f"ticket.source: drawn anew, and not pruned: {listed}")
    point = network.start(context.put(brought.rewound), dense, step=step)
    unit.finish(point, {"step": step, "source": _digest(taken), "replaced": brought.replaced})
    context.reporter.end(f"taken from {taken.spec.source}")
    return point


def _check_same(levels: Levels, taken: Taken) -> None:
    """Refuses a source that is another run than the one with which this run began."""
    began = processes.on_first(levels.context.run.unit("start").verify)
    if began["source"] != _digest(taken):
        raise UserError(
            f"ticket.source: {taken.spec.source} holds another run than when this one began: "
            "bring that back, or give another --workdir"
        )


def _digest(taken: Taken) -> str:
    """Returns by what the source is known: its config.json is written once, with an id."""
    with about("ticket.source", UserError):
        folder = copies.near(taken.spec.source, identity.FILE)
        identity.read_about(folder, "lottery")
    return hashlib.sha256((folder / identity.FILE).read_bytes()).hexdigest()


def _unit(taken: Taken, level: int) -> str:
    return unit_name(level, taken.spec.branch if level else "ticket")


def _read(taken: Taken, unit: str) -> tuple[Any, dict[str, Any]]:
    """Returns the result of a finished unit of the source, verified, and its metadata."""
    source = taken.spec.source
    folder = copies.near(source, identity.FILE, f"checkpoints/{unit}/final")
    run = Run(folder, id=str(identity.read_about(folder, "lottery").get("id", "")))
    if run.unit(unit).done:
        return run.unit(unit).result()
    every = Run(copies.near(source, f"checkpoints/*/final/{checkpoint.MANIFEST}")).units()
    there = [name for name in every if name.endswith(f"/{taken.spec.branch}")]
    raise UserError(
        f"{source} has no finished {unit} (finished: {', '.join(there) or 'none'}): finish that "
        "run, or set levels and ticket.levels to what it has"
    )


def _check_replicates(given: Mapping[str, np.ndarray], replicates: int, where: str) -> None:
    counts = {len(leaf) for leaf in given.values()}
    if counts != {replicates}:
        count = min(counts)
        raise UserError(
            f"{where} holds {count} replicates, not {replicates}: set replicates={count}"
        )


def _replaced(taken: Taken, given: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the leaves to draw anew: all of the head, or none if it fits, or cannot be told."""
    wanted, other = trees.flatten(taken.shapes), False
    for path, axes in taken.head.items():
        if path not in given:
            return []
        here, there = wanted[path].shape, given[path].shape[1:]
        if len(here) != len(there):
            return []
        differing = {axis for axis, size in enumerate(here) if size != there[axis]}
        if differing - set(axes):
            return []
        other |= bool(differing)
    return sorted(taken.head) if other or taken.spec.head == "replace" else []


def _check_mask(taken: Taken, mask: Mask, where: str) -> None:
    """Refuses a mask of other leaves than those that the config prunes, or of other shapes."""
    if differing := sorted(mask.keys() ^ set(taken.prunable)):
        listed = ", ".join(differing[:10])
        raise UserError(
            f"{where} has a mask of other arrays ({listed} differ): set prune.prunable as there"
        )
    shapes = trees.flatten(taken.shapes["params"])
    for path, leaf in mask.items():
        if leaf.shape != (taken.replicates, *shapes[path].shape) or leaf.dtype != bool:
            raise UserError(f"{where} has no mask of {path}, but {leaf.dtype} {leaf.shape}")
