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

from groundwork import copies, keys, trees
from groundwork.context import Context
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import identity
from groundwork.runs.run import result_of
from groundwork.train import loop
from groundwork.train.programs import Programs
from groundwork.train.step import Model, TrainState
from groundwork.trees import Params, Variables
from lottery import compiled, rows
from pruning import masks
from pruning.dynamic import movement
from pruning.masks import Mask
from pruning.schedule import Plan

__all__ = ["Loaded", "Ticket", "compile", "load", "parameters_kept", "scored_names", "unit_name"]


class Ticket(NamedTuple):
    """A branch at a level. Leaves have a leading replicate axis R."""

    mask: Mask  # path → [R, …] bool
    rewound: Variables  # at the start of its training, masked
    trained: Variables  # at the end of its training


class Loaded(Ticket):
    """A ticket of a run, as `load` returns it.

    Attributes:
      config: of the run; None of a folder of `lottery.iterate`, and once the ticket was mapped.
    """

    config: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """One architecture and all that is compiled for it.

    Attributes:
      model: the architecture.
      programs: training steps and evaluation.
      start: (variables, mask, step=0) → the state from which training starts, with fresh moments.
      ones: parameters → the dense mask.
    """

    model: Model
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
      settled: () → the network, with the last step's learning rate at every step.
      longer: n → the network, with the learning rate's schedule spread over n times the steps.
      plan: the number of weights that each level keeps.
      prune: roots, masks, variables, counts of each group [R], level, more evidence → masks.
      levels: the last level.
      steps: the step at which each level's training ends; it starts at `rewind_step`.
      score_step: the step after which weights are scored, to choose the next level's mask; at most
        `steps`.
      saves_scored: whether the state after that step is a unit of its own.
      before_training: whether each level's mask is chosen at step 0, among all weights.
      needs: what the criterion needs; see `Criterion`.
      rewind_step: the step to which tickets are rewound.
      restore: `weights`, or `state` if the optimiser's moments are restored with them.
      branches: control → the levels to train it at.
      scratch_b_at_most: the most steps of `scratch_b`, as a multiple of `steps`; 0 = any.
      requested: the density of each group that was asked for at the level that is trained, where
        the masks are another run's; by default, what the plan asks for.
    """

    context: Context
    network: Network
    narrowed: Callable[[int], Network]
    settled: Callable[[], Network]
    longer: Callable[[float], Network]
    plan: Plan
    prune: Callable[..., Mask]
    levels: int
    steps: int
    score_step: int
    saves_scored: bool
    before_training: bool
    needs: Sequence[str]
    rewind_step: int
    restore: str
    branches: Mapping[str, Sequence[int]]
    scratch_b_at_most: float = 0.0
    requested: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a branch's training at a level.

    Attributes:
      network: the network to train.
      mask: its weights that are kept.
      state: the state before the first step.
      best: the early-stopping point so far, if the state continues the dense training. A network
        that was rewound chooses among its own steps alone.
      stop: the step at which its training ends; by default that of every level.
    """

    network: Network
    mask: Mask
    state: TrainState
    best: loop.Best | None = None
    stop: int | None = None


def find_tickets(
    levels: Levels, train_branch: Callable[[Levels, str, int, Ticket, TrainState], None]
) -> None:
    """Trains, scores, prunes and rewinds, from level 0 (dense) to the last, with all controls.

    Tickets that are done are loaded, and controls that are done are skipped.

    Args:
      levels: of the run.
      train_branch: trains a control; takes levels, branch, level, ticket and rewind point.
    """
    run = levels.context.run
    done = frozenset(processes.on_first(run.units))
    point, best = _train_to_rewind_step(levels)
    dense = levels.network.ones(point.variables["params"])
    ticket = like = Ticket(dense, point.variables, point.variables)
    scored = point
    for level in range(levels.levels + 1):
        branches = [name for name, chosen in levels.branches.items() if level in chosen]
        branches = [name for name in branches if unit_name(level, name) not in done]
        if unit_name(level, "ticket") in done:
            following = {unit_name(level + 1, "ticket"), *scored_names(levels.saves_scored, level)}
            if not branches and following <= done:
                continue
            ticket = Ticket(*run.unit(unit_name(level, "ticket")).result(tuple(like))[0])
        else:
            before = dense if levels.before_training else ticket.mask
            mask = dense
            if level:
                mask = pruned(levels, before, scored.variables, level, scored.opt_state)
            ticket = train_unit(levels, "ticket", level, _start(levels, level, mask, point, best))
        if levels.saves_scored:
            start = _start(levels, level, ticket.mask, point, best)
            scored = _to_score_step(levels, level, start)[0]
        elif not levels.before_training:
            scored = point.replace(variables=ticket.trained, opt_state=None)
        for branch in branches:
            train_branch(levels, branch, level, ticket, point)


def rewind(levels: Levels, point: TrainState, mask: Mask) -> TrainState:
    """Returns the state at the rewind step under a mask.

    Parameters and batch statistics are restored, and so is the step, so that the learning rate's
    schedule and the data order continue from there. Moments are fresh, or those of the rewind step
    with `rewind.restore=state`.
    """
    return rewound(levels.network, point, mask, levels.restore)


def rewound(network: Network, point: TrainState, mask: Mask, restore: str) -> TrainState:
    """Returns a state under a mask, with fresh moments, or with its own if `restore` is `state`."""
    start = network.start(point.variables, mask, step=point.step)
    if restore == "state":
        start = start.replace(opt_state=jax.jit(masks.replace)(point.opt_state, mask))
    return start


def pruned(
    levels: Levels, mask: Mask, scored: Variables, level: int, opt_state: Any = None
) -> Mask:
    """Returns the mask of a level, from a mask before and the weights to score.

    Args:
      levels: of the run.
      mask: of which no more is kept.
      scored: the variables whose weights are scored.
      level: the level.
      opt_state: the optimiser's state at that step, for criteria that look at what it sums up.

    Raises:
      UserError: the scores are no numbers.
    """
    context, planned = levels.context, levels.plan.of_slices(level)
    counts = {g: np.full(context.replicates, count, np.int32) for g, count in planned.items()}
    more = {}
    if "initial" in levels.needs:
        more["initial"] = initial(levels)["params"]
    if "movement" in levels.needs:
        more["movement"] = movement.sums(opt_state)
    with about("prune.criterion"):
        return levels.prune(context.roots, mask, scored, context.put(counts), level, more)


def initial(levels: Levels) -> Variables:
    """Returns the variables before any training: those from which the dense network begins."""
    init_keys = jax.vmap(lambda root: keys.stream(root, "init"))(levels.context.roots)
    return levels.network.programs.init(init_keys)


def train_unit(levels: Levels, branch: str, level: int, start: Start) -> Ticket:
    """Trains a branch at a level, and saves it."""
    context, mask, rewound = levels.context, start.mask, start.state.variables
    unit = context.run.unit(unit_name(level, branch))
    fields = rows.fields(levels.plan, branch, level, mask, rewound)
    stop = start.stop or levels.steps
    job = loop.Job(programs=start.network.programs, unit=unit, stop=stop, fields=fields)
    state, best = start.state, start.best
    if branch == "ticket" and levels.saves_scored:
        state, best = _to_score_step(levels, level, start)
    final, _ = loop.train(context, job, state, best)
    ticket = Ticket(mask, rewound, final.variables)
    requested = levels.requested or levels.plan.requested(level)
    metadata = rows.metadata(requested, branch, level, mask)
    for layer, kept in metadata["kept"].items():
        if 0 in kept:
            context.reporter.say(f"warning: level {level}, {branch}: layer {layer} is empty")
    unit.finish(tuple(ticket), metadata)
    context.reporter.end(f"density {np.mean(fields['density']):.4f}")
    return ticket


def load(workdir: str | Path, level: int, branch: str = "ticket") -> Loaded:
    """Returns a finished branch of a run, verified, as NumPy arrays with a leading replicate axis.

    Args:
      workdir: the folder of the run, or of `lottery.iterate`.
      level: 0 is dense.
      branch: `ticket`, or a control of `lottery.branches.BRANCHES`.

    Raises:
      UserError: the run has no such unit (the error lists its units), or its checkpoint is damaged.

    Example:
        >>> import lottery
        >>> params = {"kernel": jnp.array([1.0, 2.0, 3.0, 4.0])}
        >>> fit = lambda ticket, mask: {"kernel": ticket["kernel"] * 10}  # in place of a training
        >>> levels = list(lottery.iterate(params, fit, levels=1, rate=0.5, folder="tickets"))
        >>> ticket = lottery.load("tickets", level=1)
        >>> ticket.mask["kernel"].tolist(), ticket.trained["kernel"].tolist()
        ([False, False, True, True], [0.0, 0.0, 30.0, 40.0])
    """
    ticket = Loaded(*result_of(workdir, unit_name(level, branch)))
    folder = copies.near(workdir, identity.FILE)
    if (folder / identity.FILE).exists():  # folders of `lottery.iterate` have none
        ticket.config = identity.read_about(folder)["config"]
    return ticket


def compile(
    ticket: Ticket, model: Any = None, example: Any = None, replicate: int = 0
) -> Callable[[Any], Any]:
    """Returns a trained ticket as a function: inputs [B, …] → outputs, such as logits [B, classes].

    It is compiled once for each shape of inputs. On a CPU with oneDNN each layer is computed from
    the weights that are kept, where that is faster; elsewhere the dense network is computed.

    Args:
      ticket: what `load` returned, or another one.
      model: a Linen or NNX module, or a function (variables, inputs) → outputs, in evaluation. A
        ticket of `load` names its own.
      example: inputs, or their shapes, for which the function is compiled at once.
      replicate: of R.

    Raises:
      UserError: there is no such replicate, or no model; or, with the first inputs, the run's
        network has other variables.

    Example:
        >>> import lottery
        >>> mask = {"kernel": jnp.array([[[True], [False]]])}  # [1, 2, 1]: one replicate
        >>> variables = {"params": {"kernel": jnp.array([[[2.0], [5.0]]])}}
        >>> ticket = lottery.Ticket(mask, rewound=variables, trained=variables)
        >>> model = lambda variables, inputs: inputs @ variables["params"]["kernel"]
        >>> network = lottery.tickets.compile(ticket, model)
        >>> network(jnp.array([[1.0, 1.0], [3.0, 1.0]])).tolist()  # the 5 is pruned
        [[2.0], [6.0]]
    """
    replicates = trees.replicates(ticket.trained)
    if not 0 <= replicate < replicates:
        raise UserError(f"replicate={replicate}: the ticket has {replicates}, from 0")
    config = ticket.config if isinstance(ticket, Loaded) else None
    mask, variables = (trees.replicate(tree, replicate) for tree in (ticket.mask, ticket.trained))
    run = compiled.compiled(variables, mask, model, config)
    if example is not None:
        jax.block_until_ready(run(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), example)))
    return run


def parameters_kept(ticket: Ticket) -> int:
    """Returns how many parameters a ticket keeps, prunable or not: the least of its replicates.

    Example:
        >>> import lottery
        >>> mask = {"fc/kernel": jnp.array([[True, False, True, False]])}  # one replicate
        >>> variables = {"params": {"fc": {"kernel": jnp.ones((1, 4)), "bias": jnp.ones((1, 1))}}}
        >>> ticket = lottery.Ticket(mask, rewound=variables, trained=variables)
        >>> lottery.tickets.parameters_kept(ticket)  # two weights and the bias
        3
    """
    return int(rows.parameters(ticket.mask, ticket.trained).min())


def unit_name(level: int, branch: str) -> str:
    """Returns `levels/03/ticket`.

    Example:
        >>> from lottery import tickets
        >>> tickets.unit_name(3, "random_mask")
        'levels/03/random_mask'
    """
    return f"levels/{level:02d}/{branch}"


def scored_names(saved: bool, level: int) -> list[str]:
    """Returns `scored/03`, the unit of a ticket at the step that is scored, if it has one.

    Example:
        >>> from lottery import tickets
        >>> tickets.scored_names(True, 3), tickets.scored_names(False, 3)
        (['scored/03'], [])
    """
    return [f"scored/{level:02d}"] if saved else []


def _train_to_rewind_step(levels: Levels) -> tuple[TrainState, loop.Best | None]:
    """Returns the dense state at the rewind step and its early-stopping point (unit `start`)."""
    network, step = levels.network, levels.rewind_step
    variables = initial(levels)
    mask = network.ones(variables["params"])
    start = Start(network=network, mask=mask, state=network.start(variables, mask))
    return _stop_over(levels, "start", 0, start, step)


def _to_score_step(levels: Levels, level: int, start: Start) -> tuple[TrainState, loop.Best | None]:
    """Returns a ticket's state and its early-stopping point at the step that is scored."""
    (name,) = scored_names(True, level)
    return _stop_over(levels, name, level, start, levels.score_step)


def _stop_over(
    levels: Levels, name: str, level: int, start: Start, stop: int
) -> tuple[TrainState, loop.Best | None]:
    """Returns a ticket's state and early-stopping point at a step before its last; saves both."""
    context, unit = levels.context, levels.context.run.unit(name)
    best = start.best or (loop.no_best(start.state) if context.validates else None)
    if processes.on_first(lambda: unit.done):
        return unit.result((start.state, best))[0]
    fields = rows.fields(levels.plan, "ticket", level, start.mask, start.state.variables)
    job = loop.Job(programs=start.network.programs, unit=unit, stop=stop, fields=fields, test=False)
    place = loop.train(context, job, start.state, best)
    unit.finish(place, {"step": stop})
    context.reporter.end(f"at step {stop}")
    return place


def _start(
    levels: Levels, level: int, mask: Mask, point: TrainState, best: loop.Best | None
) -> Start:
    """Returns the start of a ticket; level 0 continues the dense network at the rewind step."""
    if level:
        point, best = rewind(levels, point, mask), None
    return Start(network=levels.network, mask=mask, state=point, best=best)
