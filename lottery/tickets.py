"""Iterative magnitude pruning with rewinding, and its controls. Read `find_tickets` first.

Source: Frankle & Carbin, arXiv:1803.03635 (tickets); Frankle et al., arXiv:1903.01611 (late
rewinding). All functions take R replicates at once: every leaf has a leading axis R.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from groundwork import keys, trees
from groundwork.context import Context
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.runs.run import result_of
from groundwork.train import loop
from groundwork.train.programs import Programs
from groundwork.train.step import TrainState
from groundwork.trees import Params, Variables
from pruning import masks
from pruning.masks import Mask
from pruning.schedule import Plan


class Ticket(NamedTuple):
    """A branch at a level. Leaves have a leading replicate axis R."""

    mask: Mask  # path → [R, …] bool
    rewound: Variables  # at the start of its training, masked
    trained: Variables  # at the end of its training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """One architecture and all that is compiled for it.

    Attributes:
      programs: training steps and evaluation.
      start: (variables, mask, step=0) → the state from which training starts, with fresh moments.
      ones: parameters → the dense mask.
    """

    programs: Programs
    start: Callable[..., TrainState]
    ones: Callable[[Params], Mask]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """All that is the same at every level.

    Attributes:
      context: of the run.
      network: the network that is pruned.
      narrowed: n → a dense network of the same family with at most n parameters.
      plan: the number of weights that each level keeps.
      prune: roots, masks, variables, counts of each group [R], level → masks.
      levels: the last level.
      steps: the step at which each level's training ends; it starts at `rewind_step`.
      rewind_step: the step to which tickets are rewound.
      restore: `weights`, or `state` if the optimiser's moments are restored with them.
      branches: control → the levels to train it at.
    """

    context: Context
    network: Network
    narrowed: Callable[[int], Network]
    plan: Plan
    prune: Callable[..., Mask]
    levels: int
    steps: int
    rewind_step: int
    restore: str
    branches: Mapping[str, Sequence[int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a branch's training at a level.

    Attributes:
      network: the network to train.
      mask: its weights that are kept.
      state: the state before the first step.
      best: the early-stopping point so far, if the state continues the dense training. A network
        that was rewound chooses among its own steps alone.
    """

    network: Network
    mask: Mask
    state: TrainState
    best: loop.Best | None = None


def find_tickets(
    levels: Levels, train_branch: Callable[[Levels, str, int, Ticket, TrainState], None]
) -> None:
    """Trains, scores, prunes and rewinds, from level 0 (dense) to the last, with all controls.

    Tickets that are done are loaded, and controls that are done are skipped.

    Args:
      levels: of the run.
      train_branch: trains a control; takes levels, branch, level, ticket and rewind point.
    """
    run, network = levels.context.run, levels.network
    done = frozenset(processes.on_first(run.units))
    point, best = _train_to_rewind_step(levels, "start" in done)
    dense = network.ones(point.variables["params"])
    ticket = like = Ticket(dense, point.variables, point.variables)
    for level in range(levels.levels + 1):
        branches = [name for name, chosen in levels.branches.items() if level in chosen]
        branches = [name for name in branches if unit_name(level, name) not in done]
        if unit_name(level, "ticket") in done:
            if branches or unit_name(level + 1, "ticket") not in done:
                ticket = Ticket(*run.unit(unit_name(level, "ticket")).result(tuple(like))[0])
        elif level == 0:
            start = Start(network=network, mask=dense, state=point, best=best)
            ticket = train_unit(levels, "ticket", level, start)
        else:
            mask = _prune(levels, ticket, level)
            start = Start(network=network, mask=mask, state=rewind(levels, point, mask))
            ticket = train_unit(levels, "ticket", level, start)
        for branch in branches:
            train_branch(levels, branch, level, ticket, point)


def rewind(levels: Levels, point: TrainState, mask: Mask) -> TrainState:
    """Returns the state at the rewind step under a mask.

    Parameters and batch statistics are restored, and so is the step, so that the learning rate's
    schedule and the data order continue from there. Moments are fresh, or those of the rewind step
    with `rewind.restore=state`.
    """
    start = levels.network.start(point.variables, mask, step=point.step)
    if levels.restore == "state":
        start = start.replace(opt_state=jax.jit(masks.replace)(point.opt_state, mask))
    return start


def train_unit(levels: Levels, branch: str, level: int, start: Start) -> Ticket:
    """Trains a branch at a level, and saves it."""
    context, mask, rewound = levels.context, start.mask, start.state.variables
    unit = context.run.unit(unit_name(level, branch))
    fields = _fields(levels, branch, level, mask, rewound)
    job = loop.Job(programs=start.network.programs, unit=unit, stop=levels.steps, fields=fields)
    final, _ = loop.train(context, job, start.state, start.best)
    ticket = Ticket(mask, rewound, final.variables)
    unit.finish(tuple(ticket), _metadata(levels, branch, level, mask))
    context.reporter.end(f"density {np.mean(fields['density']):.4f}")
    return ticket


def load(workdir: str | Path, level: int, branch: str = "ticket") -> Ticket:
    """Returns a finished branch of a run, verified, as NumPy arrays with a leading replicate axis.

    Args:
      workdir: the folder of the run.
      level: 0 is dense.
      branch: `ticket`, `random_reinit`, `random_mask` or `small_dense`.

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.
    """
    return Ticket(*result_of(workdir, unit_name(level, branch)))


def parameters_kept(ticket: Ticket) -> int:
    """Returns how many parameters a ticket keeps, prunable or not: the least of its replicates."""
    return int(_parameters(ticket.mask, ticket.trained).min())


def unit_name(level: int, branch: str) -> str:
    """Returns `levels/03/ticket`."""
    return f"levels/{level:02d}/{branch}"


def _train_to_rewind_step(levels: Levels, done: bool) -> tuple[TrainState, loop.Best | None]:
    """Returns the dense state at the rewind step and its early-stopping point (unit `start`)."""
    context, network, step = levels.context, levels.network, levels.rewind_step
    init_keys = jax.vmap(lambda root: keys.stream(root, "init"))(context.roots)
    variables = network.programs.init(init_keys)
    mask = network.ones(variables["params"])
    state = network.start(variables, mask)
    unit = context.run.unit("start")
    best = loop.no_best(state) if context.validates else None
    if done:
        return unit.result((state, best))[0]
    context.reporter.begin(unit.name, 0, step)
    if step:
        fields = _fields(levels, "ticket", 0, mask, variables)
        job = loop.Job(programs=network.programs, unit=unit, stop=step, fields=fields, test=False)
        state, best = loop.train(context, job, state)
    unit.finish((state, best), {"step": step})
    context.reporter.end(f"rewind point at step {step}")
    return state, best


def _prune(levels: Levels, ticket: Ticket, level: int) -> Mask:
    """Returns the mask of a level, from the ticket of the level before."""
    context, planned = levels.context, levels.plan.of_slices(level)
    counts = {g: np.full(context.replicates, count, np.int32) for g, count in planned.items()}
    return levels.prune(context.roots, ticket.mask, ticket.trained, context.put(counts), level)


def _fields(
    levels: Levels, branch: str, level: int, mask: Mask, variables: Variables
) -> dict[str, Any]:
    """Returns fields for every row of a unit. Density is a share of the full network's weights."""
    return {
        "level": level,
        "branch": branch,
        "density": _kept(mask) / sum(levels.plan.sizes.values()),  # [R]
        "parameters": _parameters(mask, variables),  # [R]
    }


def _kept(mask: Mask) -> np.ndarray:
    """Returns the numbers of kept weights, [R] int."""
    return np.sum(list(mesh_lib.fetch(jax.vmap(masks.kept)(mask)).values()), axis=0)


def _parameters(mask: Mask, variables: Variables) -> np.ndarray:
    """Returns the numbers of parameters that are not pruned, prunable or not, [R] int."""
    kept = _kept(mask)
    parameters, prunable = trees.count(variables["params"]), masks.total(mask)
    return (parameters - prunable) // len(kept) + kept


def _metadata(levels: Levels, branch: str, level: int, mask: Mask) -> dict[str, Any]:
    """Returns, for the report, the weights asked and kept by layer; warns of empty layers."""
    kept = {k: n.tolist() for k, n in mesh_lib.fetch(jax.vmap(masks.kept)(mask)).items()}
    sizes: dict[str, int] = {}
    for path, leaf in mask.items():
        layer = masks.layer_of(path)
        sizes[layer] = sizes.get(layer, 0) + leaf[0].size
    for layer in kept:
        if 0 in kept[layer]:
            levels.context.reporter.say(f"warning: level {level}, {branch}: layer {layer} is empty")
    requested = levels.plan.requested(level)
    return {"level": level, "branch": branch, "kept": kept, "sizes": sizes, "requested": requested}
