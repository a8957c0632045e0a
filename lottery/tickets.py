"""Iterative magnitude pruning with rewinding, and its controls. Read `find_tickets` first.

Source: Frankle & Carbin, arXiv:1803.03635 (tickets); Frankle et al., arXiv:1903.01611 (late
rewinding). Everything is done to R replicates at once; every leaf has a leading axis R.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from groundwork import keys
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.devices.interruption import Interruption
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run, Unit, result_of
from groundwork.train import loop, replicates
from groundwork.train.loop import Schedule
from groundwork.train.programs import Programs
from groundwork.train.step import TrainState
from lottery.spec import LotterySpec
from pruning import masks
from pruning.criteria import CRITERIA
from pruning.schedule import Plan


class Ticket(NamedTuple):
    """A branch at a level. Leaves have a leading replicate axis R."""

    mask: masks.Mask  # path → [R, …] bool
    rewound: Any  # variables at the start of its training, masked
    trained: Any  # variables at the end of its training


class Network(NamedTuple):
    """One architecture with everything compiled for it."""

    programs: Programs
    start: Callable[..., TrainState]  # keys, mask, variables, step → state with fresh moments
    ones: Callable[[Any], masks.Mask]  # params → the dense mask


class Experiment(NamedTuple):
    """What stays the same from level to level."""

    spec: LotterySpec
    run: Run
    reporter: Reporter
    interruption: Interruption
    mesh: Mesh
    network: Network
    narrowed: Callable[[int], Network]  # n → dense, same family, at most n parameters
    plan: Plan
    roots: jax.Array  # [R] keys
    validate: bool  # is there a validation split?


def find_tickets(
    experiment: Experiment, train_branch: Callable[[Experiment, str, int, Ticket, TrainState], None]
) -> None:
    """Levels 0 (dense) to `spec.levels`: train, score, prune, rewind, and the branches beside.

    A ticket that is done already is loaded instead, a branch that is done is passed over.
    `train_branch(experiment, branch, level, ticket, rewind_point)` trains a control.
    """
    run, network = experiment.run, experiment.network
    prune = _make_prune(experiment)
    done = frozenset(processes.on_first(run.units))
    point, best = _train_to_rewind_step(experiment, "start" in done)
    dense = network.ones(point.variables["params"])
    ticket = like = Ticket(dense, point.variables, point.variables)
    for level in range(experiment.spec.levels + 1):
        branches = [b for b, chosen in experiment.spec.branches.items() if level in chosen]
        branches = [b for b in branches if unit_name(level, b) not in done]
        if unit_name(level, "ticket") in done:
            if branches or unit_name(level + 1, "ticket") not in done:
                ticket = Ticket(*run.unit(unit_name(level, "ticket")).result(tuple(like))[0])
        elif level == 0:
            ticket = train_unit(experiment, network, "ticket", level, dense, point, best)
        else:
            counts = experiment.plan.kept[level]
            mask = prune(experiment.roots, ticket.mask, ticket.trained, level, counts)
            start = rewind(experiment, point, mask)
            ticket = train_unit(experiment, network, "ticket", level, mask, start)
        for branch in branches:
            train_branch(experiment, branch, level, ticket, point)


def rewind(experiment: Experiment, point: TrainState, mask: masks.Mask) -> TrainState:
    """The state at the rewind step under a mask.

    Parameters and batch statistics come back, and with them the step, so that the learning
    rate's schedule and the data order go on from there. Moments are fresh, or with
    `rewind.restore=state` those of the rewind step.
    """
    start = experiment.network.start(point.key, mask, point.variables, point.step)
    if experiment.spec.rewind.restore == "state":
        start = start.replace(opt_state=point.opt_state._replace(mask=mask))
    return start


def train_unit(
    experiment: Experiment,
    network: Network,
    branch: str,
    level: int,
    mask: masks.Mask,
    start: TrainState,
    best: loop.Best | None = None,
) -> Ticket:
    """Train a branch at a level from `start`, and save it.

    `best` is the early-stopping point so far, where `start` continues the dense training; a
    network that was rewound has only its own steps to choose from.
    """
    spec, rewound = experiment.spec, start.variables
    unit = experiment.run.unit(unit_name(level, branch))
    fields = _fields(experiment, branch, level, mask, rewound)
    final, _ = _train(experiment, network, start, unit, spec.train.steps, fields, best=best)
    ticket = Ticket(mask, rewound, final.variables)
    unit.finish(tuple(ticket), _metadata(experiment, branch, level, mask))
    experiment.reporter.end(f"density {np.mean(fields['density']):.4f}")
    return ticket


def load(workdir: str | Path, level: int, branch: str = "ticket") -> Ticket:
    """A finished branch of a run, verified, as numpy arrays with a leading replicate axis.

    Args:
      workdir: the run's folder.
      level: 0 is dense.
      branch: `ticket`, `random_reinit`, `random_mask` or `small_dense`.

    Raises:
      UserError: the run has no such unit (lists those it has), or its checkpoint is damaged.
    """
    return Ticket(*result_of(workdir, unit_name(level, branch)))


def unit_names(spec: LotterySpec) -> list[str]:
    """All units of a run, in the order in which they are done."""
    names = ["start"]
    for level in range(spec.levels + 1):
        names.append(unit_name(level, "ticket"))
        names += [unit_name(level, b) for b, chosen in spec.branches.items() if level in chosen]
    return names


def parameters_kept(ticket: Ticket) -> int:
    """Parameters of a ticket that are not pruned, prunable or not: the least of its replicates."""
    return int(_parameters(ticket.mask, ticket.trained).min())


def unit_name(level: int, branch: str) -> str:
    """`levels/03/ticket`."""
    return f"levels/{level:02d}/{branch}"


def make_network(
    programs: Programs, optimizer: optax.GradientTransformation, mesh: Mesh, prunable: Callable
) -> Network:
    """Compile what a level needs besides training steps."""

    def start(key, mask, variables, step):
        params = masks.apply(mask, variables["params"])
        opt_state = masks.enforce(optimizer, mask).init(params)
        return TrainState(step, key, {**variables, "params": params}, opt_state)

    return Network(
        programs=programs,
        start=replicates.each_replicate(mesh, start),
        ones=replicates.each_replicate(mesh, lambda params: masks.ones(params, prunable)),
    )


def _train_to_rewind_step(
    experiment: Experiment, done: bool
) -> tuple[TrainState, loop.Best | None]:
    """The dense state at the rewind step and its early-stopping point: the unit `start`."""
    spec, network, run = experiment.spec, experiment.network, experiment.run
    init_keys = jax.vmap(lambda root: keys.stream(root, "init"))(experiment.roots)
    variables = network.programs.init(init_keys)
    mask = network.ones(variables["params"])
    zero = mesh_lib.put(experiment.mesh, np.zeros(spec.replicates, np.int32), mesh_lib.BY_REPLICATE)
    state = network.start(experiment.roots, mask, variables, zero)
    unit = run.unit("start")
    best = loop.no_best(state) if experiment.validate else None
    if done:
        return unit.result((state, best))[0]
    experiment.reporter.begin(unit.name, 0, spec.rewind.step)
    if spec.rewind.step:
        fields = _fields(experiment, "ticket", 0, mask, variables)
        state, best = _train(experiment, network, state, unit, spec.rewind.step, fields, test=False)
    unit.finish((state, best), {"step": spec.rewind.step})
    experiment.reporter.end(f"rewind point at step {spec.rewind.step}")
    return state, best


def _train(
    experiment: Experiment,
    network: Network,
    state: TrainState,
    unit: Unit,
    stop: int,
    fields: Mapping[str, Any],
    test: bool = True,
    best: loop.Best | None = None,
) -> tuple[TrainState, loop.Best | None]:
    spec = experiment.spec
    schedule = Schedule(stop, spec.eval_every, spec.checkpoint.every_seconds)
    splits = loop.Splits(validation=experiment.validate, test=test)
    return loop.train(
        network.programs,
        state,
        schedule,
        unit,
        fields,
        experiment.reporter,
        splits,
        experiment.interruption,
        best,
    )


def _make_prune(experiment: Experiment) -> Callable[..., masks.Mask]:
    """(roots, masks, variables, level, counts by group) → the next level's masks."""
    score = CRITERIA[experiment.spec.prune.criterion]
    paths = experiment.plan.paths

    def prune(root, mask, variables, level, counts):
        key = jax.random.fold_in(keys.stream(root, "criterion"), level)
        return masks.prune_to(mask, score(variables["params"], mask, key=key), counts, paths)

    return replicates.each_replicate(experiment.mesh, prune, shared=2)


def _fields(
    experiment: Experiment, branch: str, level: int, mask: masks.Mask, variables: Any
) -> dict[str, Any]:
    """What every row of a unit says of it. Density is a share of the full network's weights."""
    kept = _kept(mask)
    return {
        "level": level,
        "branch": branch,
        "density": kept / sum(experiment.plan.sizes.values()),  # [R]
        "parameters": _parameters(mask, variables),  # [R]
    }


def _kept(mask: masks.Mask) -> np.ndarray:
    """Kept weights, [R] int."""
    return np.sum(list(mesh_lib.fetch(jax.vmap(masks.kept)(mask)).values()), axis=0)


def _parameters(mask: masks.Mask, variables: Any) -> np.ndarray:
    """Parameters that are not pruned, prunable or not, [R] int."""
    kept = _kept(mask)
    everything = sum(leaf[0].size for leaf in jax.tree.leaves(variables["params"]))
    return everything - masks.total(mask) // len(kept) + kept


def _metadata(experiment: Experiment, branch: str, level: int, mask: masks.Mask) -> dict[str, Any]:
    """What was asked and what came out, by layer, for the report; an empty layer is announced."""
    kept = {k: n.tolist() for k, n in mesh_lib.fetch(jax.vmap(masks.kept)(mask)).items()}
    sizes: dict[str, int] = {}
    for path, leaf in mask.items():
        layer = masks.layer_of(path)
        sizes[layer] = sizes.get(layer, 0) + leaf[0].size
    for layer in kept:
        if 0 in kept[layer]:
            experiment.reporter.say(f"warning: level {level}, {branch}: layer {layer} is empty")
    requested = experiment.plan.requested(level)
    return {"level": level, "branch": branch, "kept": kept, "sizes": sizes, "requested": requested}
