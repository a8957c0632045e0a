"""One training of a network under a mask: it is evaluated, trained, evaluated again and saved."""

# R replicates

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from groundwork import keys
from groundwork.devices import mesh as mesh_lib
from groundwork.sections import TrainSpec
from groundwork.train import loop, networks, optim, programs, replicates
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import TrainState
from groundwork.trees import Params, Variables
from pruning import masks, select
from pruning.criteria import magnitude
from pruning.dynamic import movement
from pruning.dynamic.straight_through import straight_through
from pruning.masks import Mask
from pruning.weights.methods import Setting, Wrap
from pruning.weights.network import Experiment, Network, densities, save


class Phase(NamedTuple):
    """A training: its section of the config, its optimiser, and what holds or changes the mask."""

    steps: TrainSpec
    optimizer: OptimizerSpec
    wrap: Wrap
    setting: Setting
    differs: bool = False  # whether programs of other settings of the run are others
    given: bool = False  # whether there is no training: the network has it behind it


def trained(
    experiment: Experiment, name: str, start: Network, phase: Phase, about: Mapping[str, Any]
) -> Network:
    """Evaluates a network, trains it, evaluates it again, and saves it as a unit.

    A network that is given trained is evaluated and saved.

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
    if phase.given:
        context.reporter.begin(name, 0, 1)
        network = start._replace(variables=state.variables)
        judged = compiled.judge(state.variables)
        save(experiment, name, network, before, {"before": before, **about}, judged)
        return network
    # of a network that begins dense, rows cannot tell the density: it changes
    fields = {} if phase.differs else {"density": densities(start.mask)}
    job = loop.Job(programs=compiled, unit=unit, stop=phase.steps.steps, fields=fields)
    state, _ = loop.train(context, job, state)
    mask, variables = _sparse(experiment, phase, state)
    network = start._replace(
        mask=mesh_lib.fetch(mask),
        variables=variables,
        trainings=(*start.trainings, name),
        steps=start.steps + phase.steps.steps,
        movement=movement.sums(state.opt_state) if experiment.sums_movement else None,
    )
    measured = networks.accuracies(context, compiled, state.variables)
    judged = compiled.judge(state.variables)
    save(experiment, name, network, measured, {"before": before, **about}, judged)
    return network


def compile_programs(experiment: Experiment, phase: Phase) -> Programs:
    """Returns the compiled programs of a training; masks are data, so most networks share them."""
    context, compiled = experiment.context, experiment.compiled
    setting = repr(phase.setting) if phase.differs else ""
    key: Any = ("programs", phase.steps, phase.optimizer, phase.wrap, setting)
    if key not in compiled:
        made = programs.make(
            _network(experiment, phase),
            _wrapped(experiment, phase, None, None),
            context.dataset,
            context.mesh,
            batch_size=phase.steps.batch_size,
            stride=context.poll_steps,
            objective=experiment.loss,
        )
        for other, one in compiled.items():
            if other[0] == "programs" and not _sees_through(experiment, phase):
                made = made._replace(evaluate=one.evaluate, judge=one.judge)
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


def _sparse(experiment: Experiment, phase: Phase, state: TrainState) -> tuple[Mask, Variables]:
    """Returns the masks [R, …] at the end of a training, and the variables under them."""
    variables = state.variables
    if phase.setting.strength:  # what has become zero
        params = masks.flatten(variables["params"], experiment.leaves.__contains__)
        return {path: leaf != 0 for path, leaf in params.items()}, variables
    if _sees_through(experiment, phase):
        mesh, setting = experiment.context.mesh, phase.setting

        def chosen(params: Params) -> Mask:
            dense = masks.ones(params, experiment.leaves.__contains__)
            scores = magnitude(params, dense)
            return select.prune_to(dense, scores, setting.counts, setting.paths)

        mask = replicates.each_replicate(mesh, chosen, once=True)(variables["params"])
        return mask, {**variables, "params": masks.apply(mask, variables["params"])}
    return masks.mask_of(state.opt_state), variables


def _sees_through(experiment: Experiment, phase: Phase) -> bool:
    """Returns whether the network sees its best weights alone, while all of them learn."""
    return experiment.spec.prune.method == "straight_through" and bool(phase.setting.counts)


def _network(experiment: Experiment, phase: Phase) -> Any:
    """Returns the network that is trained."""
    if not _sees_through(experiment, phase):
        return experiment.model
    return _Through(experiment.model, phase.setting)


class _Through:
    """A network that sees its best weights alone."""

    def __init__(self, model: Any, setting: Setting) -> None:
        self.init: Callable[..., Variables] = model.init
        self._model, self._setting = model, setting

    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """Calls the network as it is called itself."""
        counts, paths = self._setting.counts, self._setting.paths
        params = straight_through(variables["params"], counts, paths)
        return self._model.apply({**variables, "params": params}, *args, **kwargs)
