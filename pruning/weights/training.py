"""The networks of a run over single weights: how they are trained, measured and saved."""

# R replicates

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from groundwork import keys
from groundwork.context import Context
from groundwork.devices import mesh as mesh_lib
from groundwork.sections import TrainSpec
from groundwork.train import loop, networks, optim, programs
from groundwork.train.losses import Loss
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from pruning import masks
from pruning.criteria import CRITERIA
from pruning.dynamic import movement
from pruning.masks import Mask
from pruning.weights.methods import Setting, Wrap
from pruning.weights.spec import WeightsSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network whose weights go.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the network.
      loss: of the run.
      leaves: path → shape of the leaves that may be pruned, of one replicate.
      compiled: what is compiled so far, programs and others.
    """

    context: Context
    spec: WeightsSpec
    model: Any
    loss: Loss
    leaves: Mapping[str, Any]
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def initial(self) -> Variables:
        """The variables [R, …] before any training, on the host."""
        return mesh_lib.fetch(networks.initial(self.context, self.model))

    @property
    def sums_movement(self) -> bool:
        """Whether trainings sum up how weights move, since the criterion asks for it."""
        prune = self.spec.prune
        return prune.how.fine_tunes and "movement" in CRITERIA[prune.criterion].needs

    def dense(self) -> dict[str, Any]:
        """Returns the masks [R, …] that keep everything, on the host."""
        replicates = self.context.replicates
        return {p: np.ones((replicates, *leaf.shape), bool) for p, leaf in self.leaves.items()}


class Phase(NamedTuple):
    """A training: its section of the config, its optimiser, and what holds or changes the mask."""

    steps: TrainSpec
    optimizer: OptimizerSpec
    wrap: Wrap
    setting: Setting
    changes: bool = False  # whether the mask changes, so that the setting is compiled in


class Network(NamedTuple):
    """Masks [R, …] and variables [R, …], and what led to them."""

    mask: Mask
    variables: Variables
    trainings: tuple[str, ...] = ()  # units, from the initialisation on
    steps: int = 0  # of all of them
    initial: Any = None  # parameters [R, …] before any training, for criteria that look at them
    movement: Any = None  # of the last training, likewise


def trained(
    experiment: Experiment, name: str, start: Network, phase: Phase, about: Mapping[str, Any]
) -> Network:
    """Evaluates a network, trains it, evaluates it again, and saves it as a unit.

    Args:
      experiment: the run.
      name: of the unit.
      start: masks and variables that its training starts from.
      phase: the training.
      about: further metadata of the unit.
    """
    context = experiment.context
    unit = context.run.unit(name)
    compiled = compile_programs(experiment, phase)
    state = _start(experiment, phase, start)
    before = networks.accuracies(context, compiled, state.variables)
    rows = {"density": densities(start.mask)}
    job = loop.Job(programs=compiled, unit=unit, stop=phase.steps.steps, fields=rows)
    state, _ = loop.train(context, job, state)
    network = start._replace(
        mask=mesh_lib.fetch(_mask(experiment, phase, state)),
        variables=state.variables,
        trainings=(*start.trainings, name),
        steps=start.steps + phase.steps.steps,
        movement=movement.sums(state.opt_state) if experiment.sums_movement else None,
    )
    measured = networks.accuracies(context, compiled, state.variables)
    save(experiment, name, network, measured, {"before": before, **about})
    return network


def save(
    experiment: Experiment,
    name: str,
    network: Network,
    measured: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Saves a network as a unit, with its accuracies by split, and says what it is."""
    metadata = {
        "untouched": {},
        **measured,
        "density": densities(network.mask),
        "kept": kept(network.mask),
        "trainings": list(network.trainings),
        "steps": network.steps,
        **about,
    }
    tree = {"mask": network.mask, "variables": network.variables}
    if network.movement is not None:
        tree["movement"] = network.movement
    experiment.context.run.unit(name).finish(tree, metadata)
    words = f"test {experiment.loss.metric.words} {np.mean(measured['test']):.4f}"
    experiment.context.reporter.end(f"density {np.mean(metadata['density']):.4f}, {words}")


def load(experiment: Experiment, name: str) -> tuple[Network, dict[str, Any]]:
    """Returns a finished network and its metadata."""
    tree, metadata = experiment.context.run.unit(name).result()
    network = Network(
        tree["mask"],
        tree["variables"],
        tuple(metadata["trainings"]),
        metadata["steps"],
        initial=experiment.initial["params"],
        movement=tree.get("movement"),
    )
    return network, metadata


def densities(mask: Mask) -> list[float]:
    """Returns kept / prunable of each replicate, [R], from masks [R, …] on the host."""
    flat = np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in mask.values()], axis=1)
    return flat.mean(axis=1, dtype=np.float64).tolist()


def kept(mask: Mask) -> dict[str, tuple[float, int]]:
    """Returns path → (kept weights, the mean over replicates, and all weights)."""
    return {
        path: (float(leaf.sum(dtype=np.int64) / len(leaf)), math.prod(leaf.shape[1:]))
        for path, leaf in mask.items()
    }


def compile_programs(experiment: Experiment, phase: Phase) -> Programs:
    """Returns the compiled programs of a training; masks are data, so most networks share them."""
    context, compiled = experiment.context, experiment.compiled
    setting = repr(phase.setting) if phase.changes else ""
    key: Any = ("programs", phase.steps, phase.optimizer, phase.wrap, setting)
    if key not in compiled:
        made = programs.make(
            experiment.model,
            _wrapped(experiment, phase, None, None),
            context.dataset,
            context.mesh,
            batch_size=phase.steps.batch_size,
            stride=context.poll_steps,
            objective=experiment.loss,
        )
        for other, one in compiled.items():
            if other[0] == "programs":
                made = made._replace(evaluate=one.evaluate)
        compiled[key] = made
    found: Programs = compiled[key]
    return found


def _wrapped(
    experiment: Experiment, phase: Phase, mask: Mask | None, key: jax.Array | None
) -> optax.GradientTransformation:
    """Returns the optimiser of a training, under its mask."""
    optimizer = optim.make(phase.optimizer, phase.steps.steps)
    if experiment.sums_movement:
        optimizer = movement.accumulate(optimizer, experiment.spec.prune.is_prunable)
    return phase.wrap(phase.setting, optimizer, mask, key)


def _start(experiment: Experiment, phase: Phase, start: Network) -> TrainState:
    """Returns the state before the first step: pruned weights are zero."""

    def begin(variables: Variables, mask: Mask, root: jax.Array) -> tuple[Variables, Any]:
        params = masks.apply(mask, variables["params"])
        wrapped = _wrapped(experiment, phase, mask, keys.stream(root, "mask"))
        return {**variables, "params": params}, wrapped.init(params)

    made = networks.make_start(experiment.context, begin, once=True)
    placed = experiment.context.put((start.variables, start.mask))
    return made(*placed, experiment.context.roots)


def _mask(experiment: Experiment, phase: Phase, state: TrainState) -> Mask:
    """Returns the masks [R, …] at the end of a training."""
    if phase.setting.strength:  # what the L1 norm has made zero
        params = masks.flatten(state.variables["params"], experiment.leaves.__contains__)
        return {path: leaf != 0 for path, leaf in params.items()}
    return masks.mask_of(state.opt_state)
