"""The work of a run over single weights: the dense network, then a sparse one for each density."""

# R replicates

from collections.abc import Mapping
from typing import Any

from groundwork import architectures
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.runs import trained as trained_lib
from groundwork.study import Prepared
from groundwork.train import footprint, networks, own
from groundwork.trees import Shapes, Variables
from pruning import pruner
from pruning.criteria import CRITERIA
from pruning.weights.masking import check_pattern, groups, masked
from pruning.weights.methods import METHODS, Setting
from pruning.weights.network import Experiment, Network, load
from pruning.weights.section import Point
from pruning.weights.spec import WeightsSpec, unit_name
from pruning.weights.training import Phase, trained
from pruning.weights.tuning import fine_tuned, search


def prepare(spec: WeightsSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked.

    Raises:
      UserError: the network cannot take the data, or the config's densities cannot be met.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, spec.optimizer, spec.replicates)
    loss, code = own.checked_loss(spec.loss, dataset, model, shapes)
    leaves = spec.prune.leaves(shapes["params"])
    if spec.prune.how.first == "criterion":
        with about("prune.criterion"):
            networks.check_examples("prune.examples", spec.prune.examples, dataset)
            seen = networks.seen(dataset, model, spec.prune.seen, loss)
            pruner.check(CRITERIA[spec.prune.criterion], leaves, shapes, **seen)
    if spec.prune.searches and not dataset.examples["validation"]:
        raise UserError(
            "prune.keep_accuracy and prune.least_accuracy need data.validation_examples above 0"
        )
    if spec.prune.pattern != "none":
        check_pattern(spec.prune, leaves, model, dataset.example)
    for point in spec.prune.points:
        least = spec.prune.least_density if spec.prune.searches else point.density
        groups(spec.prune, leaves, least or 1.0)
    sizes = {"train": spec.train.batch_size, "fine_tune": spec.fine_tune.batch_size}

    def work(context: Context) -> None:
        sweep(Experiment(context=context, spec=spec, model=model, loss=loss, leaves=leaves))

    def begin() -> None:
        if spec.source.path:
            trained_lib.check_data(spec.source.path, config["data"], "source.path", apart=True)
            _given(spec, model, shapes)

    return Prepared(
        mesh=networks.mesh_for(spec.mesh, spec.replicates, sizes, dataset),
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def _given(spec: WeightsSpec, model: Any, shapes: Shapes) -> Variables:
    """Returns the variables [R, …] of the network that `source` names, checked by the shapes."""
    source = spec.source
    return trained_lib.source(source.path, source.unit, model, shapes, spec.replicates)


def sweep(experiment: Experiment) -> None:
    """Makes the dense network, then every sparse one; what is done is skipped."""
    spec = experiment.spec
    done = set(processes.on_first(experiment.context.run.units))
    if "dense" not in done:
        make_dense(experiment)
    for point in spec.prune.points:
        if unit_name(point) in done:
            continue
        if spec.prune.searches:
            search(experiment, point)
        elif spec.prune.how.fine_tunes:
            make_fine_tuned(experiment, point)
        else:
            make_sparse(experiment, point)


def make_dense(experiment: Experiment) -> None:
    """Makes the network that others are compared with, and that some are made of.

    It is trained, or taken from `source`.
    """
    spec = experiment.spec
    setting = Setting(section=spec.prune, steps=spec.train.steps, paths={}, counts={}, strength=0.0)
    phase = Phase(spec.train, spec.optimizer, METHODS["static"].wrap, setting)
    if spec.source.path:
        shapes = architectures.shapes(experiment.model, experiment.context.dataset.example)
        given = Network(experiment.dense(), _given(spec, experiment.model, shapes))
        trained(experiment, "dense", given, phase._replace(given=True), {})
        return
    start = Network(experiment.dense(), experiment.initial)
    trained(experiment, "dense", start, phase, {})


def make_fine_tuned(experiment: Experiment, point: Point) -> None:
    """Prunes the dense network and fine-tunes it, in as many turns as the method takes."""
    prune = experiment.spec.prune
    assert point.density is not None
    network, _ = load(experiment, "dense")
    turns = prune.iterations if prune.method == "iterative" else 1
    for turn in range(1, turns + 1):
        name = unit_name(point) if turn == turns else f"iterations/{point.label}/{turn}"
        density = point.density ** (turn / turns)
        network = fine_tuned(experiment, name, network, density, turn, point.density)


def make_sparse(experiment: Experiment, point: Point) -> None:
    """Trains a new network under the method's mask."""
    spec, how = experiment.spec, experiment.spec.prune.how
    planned = groups(spec.prune, experiment.leaves, point.density or 1.0)
    start = Network(experiment.dense(), experiment.initial)
    untouched: dict[str, str] = {}
    if how.first != "dense":
        criterion = "random" if how.first == "random" else spec.prune.criterion
        start, untouched = masked(experiment, criterion, start, planned, 0)
    setting = Setting(
        section=spec.prune,
        steps=spec.train.steps,
        paths=planned.paths,
        counts=planned.counts,
        strength=point.strength or 0.0,
    )
    differs = how.first == "dense"  # counts or strengths are compiled in, masks are not
    phase = Phase(spec.train, spec.optimizer, how.wrap, setting, differs)
    trained(experiment, unit_name(point), start, phase, {"untouched": untouched})
