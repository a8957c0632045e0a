"""The work of a run: a dense training, two copies from each of its steps, the paths between them.

Source: Frankle et al., arXiv:1912.05671, section 3 (instability analysis). Departs: a ticket's mask
is that of one run of `lottery.main`, at whatever step its tickets were rewound to, and not one that
was found anew for each step.
"""

# R replicates, P points of a path

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from groundwork import architectures, keys
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices import processes
from groundwork.errors import about
from groundwork.study import Prepared
from groundwork.train import footprint, loop, networks, optim, own
from groundwork.train.losses import Loss
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery import tickets
from lottery.branches import random_mask
from lottery.stability import source
from lottery.stability.errors import Meter
from lottery.stability.spec import (
    DENSE,
    Spec,
    copy_name,
    pair_name,
    path_name,
    point_name,
)
from lottery.work import make_network
from pruning import masks, structured
from pruning.masks import Mask


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """What all units of a run share.

    Attributes:
      context: of the run.
      spec: of the config.
      network: which is trained, with all that is compiled for it.
      meter: measures errors.
    """

    context: Context
    spec: Spec
    network: tickets.Network
    meter: Meter

    @functools.cached_property
    def start(self) -> TrainState:
        """The dense state before the first step."""
        inits = jax.vmap(lambda root: keys.stream(root, "init"))(self.context.roots)
        variables = self.network.programs.init(inits)
        return self.network.start(variables, self.network.ones(variables["params"]))


def prepare(spec: Spec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or the source is no run of this training.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    networks.check_examples("stability.train_examples", spec.stability.train_examples, dataset)
    if spec.stability.match:
        with about("stability.match"):
            structured.groups(model, shapes, dataset.example)

    def work(context: Context) -> None:
        measure(make_experiment(context, spec, model, loss))

    def begin() -> None:
        if spec.stability.source:
            digest = data_lib.digest(dataset)
            source.check(spec.stability, config, shapes["params"], digest, code)

    return Prepared(
        mesh=networks.mesh_for(
            spec.mesh, spec.replicates, {"train": spec.train.batch_size}, dataset
        ),
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def make_experiment(context: Context, spec: Spec, model: Any, loss: Loss) -> Experiment:
    """Returns what all units share; nothing is compiled yet."""
    network = make_network(
        context,
        model,
        optim.make(spec.optimizer, spec.train.steps),
        batch_size=spec.train.batch_size,
        loss=loss,
        prunable=source.prunable(spec.stability),
    )
    meter = Meter(context=context, section=spec.stability, network=network, loss=loss)
    return Experiment(context=context, spec=spec, network=network, meter=meter)


def measure(experiment: Experiment) -> None:
    """Trains the dense network to each step, then two copies from there, and measures the paths.

    What is done is skipped.
    """
    section, run = experiment.spec.stability, experiment.context.run
    done = frozenset(processes.on_first(run.units))
    taken = source.known(section, run, done)
    point = experiment.start
    for step in section.steps:
        left = [name for name in section.networks if path_name(name, step) not in done]
        if step and (left or step != section.steps[-1]):
            point = _dense_to(experiment, point, step)
        for network in left:
            mask = _mask(experiment, network)
            first, second = (_copy(experiment, point, network, mask, step, copy) for copy in (1, 2))
            experiment.meter.save(
                path_name(network, step),
                first,
                second,
                {"network": network, "step": step, "density": _density(mask), **taken},
            )
    for pair in section.pairs:
        if pair_name(*pair) not in done:
            one, two = (
                tickets.Ticket(*experiment.context.put(tuple(tickets.load(section.source, level))))
                for level in pair
            )
            experiment.meter.save(
                pair_name(*pair),
                one.trained,
                two.trained,
                {"levels": pair, "densities": [_density(one.mask), _density(two.mask)], **taken},
            )


def _dense_to(experiment: Experiment, point: TrainState, step: int) -> TrainState:
    """Returns the dense state at a step, from one before it; saves it."""
    context = experiment.context
    unit = context.run.unit(point_name(step))
    if processes.on_first(lambda: unit.done):
        state: TrainState = unit.result(point)[0]
        return state
    job = loop.Job(
        programs=experiment.network.programs,
        unit=unit,
        stop=step,
        fields={"network": DENSE},
        test=False,
    )
    state, _ = loop.train(context, job, point)
    unit.finish(state, {"step": step})
    context.reporter.end(f"at step {step}")
    return state


def _copy(
    experiment: Experiment, point: TrainState, network: str, mask: Mask, step: int, copy: int
) -> Variables:
    """Returns the variables of a copy at the end of its training; saves them.

    Its data order, and all else that is random in its training, is its own.
    """
    context, section = experiment.context, experiment.spec.stability
    unit = context.run.unit(copy_name(network, step, copy))
    if processes.on_first(lambda: unit.done):
        variables: Variables = unit.result(point.variables)[0]
        return variables
    state = tickets.rewound(experiment.network, point, mask, section.restore)
    roots = jax.vmap(lambda root: keys.stream(root, f"copy/{copy}"))(context.roots)
    job = loop.Job(
        programs=experiment.network.programs,
        unit=unit,
        stop=experiment.spec.train.steps,
        fields={"network": network, "from_step": step, "copy": copy, "density": _density(mask)},
    )
    final, _ = loop.train(context, job, state.replace(key=roots))
    unit.finish(final.variables, {"network": network, "from_step": step, "copy": copy})
    context.reporter.end(f"density {np.mean(_density(mask)):.4f}")
    return final.variables


def _mask(experiment: Experiment, network: str) -> Mask:
    """Returns the masks [R, …] of one of `StabilitySpec.networks`."""
    context = experiment.context
    if network == DENSE:
        mask: Mask = experiment.network.ones(experiment.start.variables["params"])
        return mask
    kind, _, number = network.partition("-")
    level = int(number)
    mask = context.put(source.mask(experiment.spec.stability, level))
    if kind == "random":
        mask = random_mask.make_draw(context.mesh)(context.roots, mask, level)
    return mask


def _density(mask: Mask) -> list[float]:
    """Returns kept / prunable of each replicate."""
    return mesh_lib.fetch(jax.vmap(masks.density)(mask)).tolist()
