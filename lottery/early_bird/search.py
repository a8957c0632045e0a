"""The dense training, epoch by epoch: a mask after each, and the distances between all of them."""

# R replicates, E epochs

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

from groundwork import trees
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.train import loop, networks, optim, programs, replicates
from groundwork.train.programs import Programs
from groundwork.train.step import Batch, LossFn, TrainState, make_loss
from groundwork.trees import Variables
from lottery.early_bird import detection, draws, low_precision
from lottery.early_bird.low_precision import FLOAT
from lottery.early_bird.spec import Spec, epoch_name
from pruning import fit, structured
from pruning.structured import Graph

Masks = dict[str, np.ndarray]  # group of channels or path of a kernel → [R, …] bool, True = kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A run, its dense network and what draws masks of it.

    Attributes:
      spec: of the command.
      experiment: the run and the network, for what trains its narrow ones.
      graph: its groups of channels; None for masks of weights.
    """

    spec: Spec
    experiment: fit.Experiment
    graph: Graph | None

    @functools.cached_property
    def draw_weights(self) -> Any:
        """Parameters [R, …] → masks [R, …] of single weights, compiled once."""
        how = self.spec.early_bird
        mesh = self.experiment.context.mesh
        return replicates.each_replicate(
            mesh, lambda params: draws.weights(params, how.ratio, how.scope), once=True
        )

    def own(self, variables: Variables) -> Masks:
        """Returns the masks of all replicates, of each by its own ranks; the detector sees these.

        Args:
          variables: [R, …] on the host.
        """
        how = self.spec.early_bird
        if self.graph is None:
            params = self.experiment.context.put(variables["params"])
            return dict(mesh_lib.fetch(self.draw_weights(params)))
        each = [draws.channels(one, how.ratio, how.scope) for one in self._scores(variables)]
        return {name: np.stack([keep[name] for keep in each]) for name in each[0]}

    def drawn(self, variables: Variables) -> Masks:
        """Returns the masks of tickets: `own`, or channels with `draws.shared_counts`."""
        if self.graph is None:
            return self.own(variables)
        how = self.spec.early_bird
        return draws.shared_counts(self._scores(variables), how.ratio, how.scope)

    def _scores(self, variables: Variables) -> list[structured.Scores]:
        assert self.graph is not None
        count = trees.replicates(variables["params"])
        return [draws.scale_scores(self.graph, trees.replicate(variables, r)) for r in range(count)]


def train(search: Search) -> None:
    """Trains the dense network, an epoch for each unit, and saves its masks; what is done stays."""
    spec, context = search.spec, search.experiment.context
    done = set(processes.on_first(context.run.units))
    names = [epoch_name(number) for number in range(1, spec.epochs + 1)]
    first = next((number for number, name in enumerate(names, 1) if name not in done), None)
    if first is None:
        return
    optimizer, compiled = _optimizer(spec), _compiled(search)
    begin = networks.make_start(context, networks.unmasked(optimizer), once=True)
    state = begin(context.put(search.experiment.initial))
    if first > 1:
        state = _after(search, state, first - 1)
    for number in range(first, spec.epochs + 1):
        unit = context.run.unit(epoch_name(number))
        stop = number * spec.early_bird.every
        job = loop.Job(programs=compiled, unit=unit, stop=stop, fields={}, test=False)
        state, _ = loop.train(context, job, state)
        mask = search.own(mesh_lib.fetch(state.variables))
        place = {"variables": state.variables, "opt_state": state.opt_state}
        unit.finish({**place, "mask": mask}, {"step": stop})
        context.reporter.end(f"a mask after epoch {number}")


def measure(search: Search) -> None:
    """Saves the distances [R, E, E] between the masks of all epochs, and when the detector fires.

    Each replicate has its own detector. The ticket of the run is drawn where the last of them has
    fired, since replicates are trained together: `epoch`, from 1, or None.
    """
    spec, run = search.spec, search.experiment.context.run
    units = [run.unit(epoch_name(number)) for number in range(1, spec.epochs + 1)]
    masks = [unit.result()[0]["mask"] for unit in units]
    found = np.stack(
        [
            detection.distances([{n: np.asarray(k[r], bool) for n, k in m.items()} for m in masks])
            for r in range(search.experiment.context.replicates)
        ]
    )
    fired = [epoch_of(one, spec.early_bird.threshold, spec.early_bird.patience) for one in found]
    epoch = None if None in fired else max(f for f in fired if f is not None)
    search.experiment.context.reporter.begin("distances", 0, 1)
    run.unit("distances").finish({"distances": found}, {"fired": fired, "epoch": epoch})
    said = f"the detector fires at epoch {epoch}" if epoch else "the detector does not fire"
    search.experiment.context.reporter.end(said)


def epoch_of(distances: np.ndarray, threshold: float, patience: int) -> int | None:
    """Returns the epoch, from 1, at which the detector fires on a matrix [E, E] of distances.

    Epoch 1 has the first mask, and the distance at index i is that of epochs i + 1 and i + 2.
    """
    index = detection.detect(np.diagonal(distances, 1), threshold, patience)
    return None if index is None else index + 2


def variables_at(search: Search, epoch: int) -> Variables:
    """Returns the variables [R, …] of the dense network after an epoch, on the host."""
    tree = search.experiment.context.run.unit(epoch_name(epoch)).result()[0]
    variables: Variables = tree["variables"]
    return variables


def _after(search: Search, state: TrainState, epoch: int) -> TrainState:
    """Returns the state with which an epoch ended; `state` has its form."""
    context = search.experiment.context
    like = {
        "variables": state.variables,
        "opt_state": state.opt_state,
        "mask": search.own(mesh_lib.fetch(state.variables)),
    }
    tree, metadata = context.run.unit(epoch_name(epoch)).result(like)
    step = context.put(np.full(context.replicates, metadata["step"], np.int32))
    return state.replace(step=step, variables=tree["variables"], opt_state=tree["opt_state"])


def _optimizer(spec: Spec) -> optax.GradientTransformationExtraArgs:
    trained_by = optim.make(spec.optimizer, spec.train.steps)
    if spec.early_bird.bits == FLOAT:
        return trained_by
    return optax.chain(low_precision.rounded_gradients(spec.early_bird.bits), trained_by)


def _compiled(search: Search) -> Programs:
    """Returns the programs of the dense training, which count as those of its evaluation do."""
    spec, experiment = search.spec, search.experiment
    shared = fit.shared_with_equals(experiment, experiment.model, experiment.initial)
    plain = fit.compile_programs(experiment, shared, experiment.model, dense_phase(spec))
    made = programs.make(
        experiment.model,
        _optimizer(spec),
        experiment.context.dataset,
        experiment.context.mesh,
        batch_size=spec.train.batch_size,
        stride=experiment.context.poll_steps,
        loss=loss(search),
        objective=experiment.loss,
    )
    return made._replace(evaluate=plain.evaluate, judge=plain.judge)


def dense_phase(spec: Spec) -> fit.Phase:
    """Returns the training that the dense network has behind it."""
    return fit.Phase(spec.train, spec.optimizer, given=True)


def loss(search: Search) -> LossFn:
    """Returns the loss of the dense training: the run's, and the penalty of BatchNorm's scales.

    The network sees rounded weights; the penalty sees those that are trained.
    """
    how, graph, experiment = search.spec.early_bird, search.graph, search.experiment
    loss_fn = make_loss(experiment.model, experiment.loss)

    def searched(key: jax.Array, variables: Variables, batch: Batch) -> tuple[jax.Array, Any]:
        seen = {**variables, "params": low_precision.rounded(variables["params"], how.bits)}
        mean, aux = loss_fn(key, seen, batch)
        if graph is None or not how.penalty:
            return mean, aux
        return mean + how.penalty * structured.penalty(graph, variables, "slimming"), aux

    return searched
