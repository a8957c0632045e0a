"""What all parts of a run share; and what is refused before anything is trained."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import architectures
from compress import quantizing, share, teachers
from compress.networks import Form
from compress.spec import CompressSpec
from experiment import mapping, trained
from experiment import mesh as mesh_lib
from experiment.data import Dataset
from experiment.errors import UserError
from experiment.interruption import Interruption
from experiment.progress import Reporter
from experiment.run import Run
from experiment.streams import Streams
from lottery import masks, schedule
from lowrank import planning
from lowrank import setup as lowrank_setup
from lowrank.spec import LowRankSpec


class Experiment(NamedTuple):
    """What all networks of a run share."""

    spec: CompressSpec
    model: nn.Module
    dataset: Dataset | Streams
    mesh: Mesh
    run: Run
    reporter: Reporter
    interruption: Interruption
    roots: jax.Array  # [R] keys
    compiled: Callable[..., Any]  # see `training.compiler`


class Made(NamedTuple):
    """A network on its way through the stages. Leaves have a leading replicate axis R."""

    form: Form
    variables: Any  # collections of arrays; after `quantize`, of stored forms
    mask: masks.Mask  # path → bool; empty before anything is pruned
    bits: Mapping[str, int]  # path of a kernel → bits; empty before `quantize`


def check(spec: CompressSpec, config: Mapping[str, Any], dataset: Dataset | Streams) -> None:
    """Refuse what can be known to fail from shapes alone.

    Raises:
      UserError: groups that cannot be one, a budget or levels that cannot be reached, teachers of
        other data, a student that cannot be made.
    """
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.shape)
    for stage in spec.stages:
        if stage == "share":
            shapes = tied_shapes(shapes, spec)
        elif stage == "factorize":
            _check_budget(spec, model, dataset)
            break  # what follows has shapes that depend on the ranks
        elif stage == "distill":
            teachers.check(spec.distill, config, dataset)
            if spec.distill.model:
                model = architectures.build(spec.distill.model, dataset.classes)
                shapes = architectures.shapes(model, dataset.shape)
        elif stage == "prune":
            counts(spec, shapes["params"])
        elif stage == "quantize":
            quantizing.said(spec.quantize, list(quantizing.kernels(shapes["params"])))
    if spec.distill.during and "distill" not in spec.stages:
        teachers.check(spec.distill, config, dataset)
    if isinstance(dataset, Streams) and _looks(spec):
        raise UserError("activation_bits, mixed and svd_outputs look at images: data.stream=false")


def counts(spec: CompressSpec, params: Any) -> schedule.Plan:
    """How many weights each level keeps.

    Raises:
      UserError: nothing is prunable, or a level cannot be reached.
    """
    prunable = masks.flatten(params, spec.prune.is_prunable)
    if not prunable:
        paths = ", ".join(masks.flatten(params, lambda path: True))
        raise UserError(f"prune.prunable={spec.prune.prunable} matches none of {paths}")
    rules = spec.prune
    return schedule.plan(prunable, rules.rate, rules.scope, max(rules.levels), rules.schedule)


def tied_shapes(shapes: Any, spec: CompressSpec) -> Any:
    """Shapes of variables once groups are one.

    Raises:
      UserError: they cannot be.
    """
    try:
        params = jax.eval_shape(lambda tree: share.tie(tree, spec.share.groups), shapes["params"])
    except ValueError as error:
        raise UserError(f"share.groups: {error}") from error
    return {**shapes, "params": params}


def given(spec: CompressSpec, shapes: Any) -> Any:
    """The variables [R, …] of the network that `source` names, checked against the shapes."""
    found = trained.load(spec.source.path, spec.source.unit)
    return trained.replicated(found, shapes, spec.replicates, spec.source.path)


def low_rank(experiment: Experiment, model: nn.Module) -> lowrank_setup.Experiment:
    """The experiment as `lowrank` asks for it, around another module."""
    return lowrank_setup.Experiment(
        low_rank_spec(experiment.spec),
        model,
        experiment.dataset,
        experiment.mesh,
        experiment.run,
        experiment.reporter,
        experiment.interruption,
        experiment.roots,
    )


def leaving(experiment: lowrank_setup.Experiment, paths: Sequence[str]) -> lowrank_setup.Experiment:
    """The experiment, with some more layers left as they are."""
    decompose = experiment.spec.decompose
    leave = tuple(dict.fromkeys([*decompose.leave, *paths]))
    decompose = dataclasses.replace(decompose, leave=leave)
    return experiment._replace(spec=dataclasses.replace(experiment.spec, decompose=decompose))


def low_rank_spec(spec: CompressSpec) -> LowRankSpec:
    """The part of the spec that `lowrank` knows."""
    keys = ("seed", "replicates", "eval_every", "source", "train", "optimizer", "fine_tune")
    more = ("fine_tune_optimizer", "mesh", "checkpoint", "log")
    same = {key: getattr(spec, key) for key in (*keys, *more)}
    return LowRankSpec(predict=(), decompose=spec.factorize.decompose, **same)


def _check_budget(spec: CompressSpec, model: nn.Module, dataset: Dataset | Streams) -> None:
    if spec.factorize.ranks != "budget":
        return
    full = architectures.shapes(model, dataset.shape)
    found, _ = lowrank_setup.reached(low_rank_spec(spec), model, full, dataset.shape)
    own = spec.factorize
    try:
        for setting in own.settings:
            planning.check_budget(found, own.method, setting, own.measure)
    except UserError as error:
        raise UserError(str(error).replace("decompose.", "factorize.")) from error


def _looks(spec: CompressSpec) -> bool:
    own = spec.quantize
    quantizes = "quantize" in spec.stages and (own.activation_bits > 0 or own.mixed)
    return quantizes or ("factorize" in spec.stages and spec.factorize.method == "svd_outputs")


def put(experiment: Experiment, trees: Any) -> Any:
    """Trees [R, …] on the devices, split by replicate."""
    return mesh_lib.put(experiment.mesh, trees, mesh_lib.BY_REPLICATE)


def mapped(experiment: Experiment, function: Callable[..., Any], *trees: Any) -> Any:
    """A function of one replicate on trees [R, …], once; on the host."""
    compiled = mapping.each_replicate(experiment.mesh, function, once=True)
    return mesh_lib.fetch(compiled(*put(experiment, trees)))


def examples(dataset: Dataset | Streams, count: int) -> jax.Array:
    """The first training images as network inputs."""
    return lowrank_setup.training_inputs(dataset, count)


def labels(dataset: Dataset | Streams, count: int) -> jax.Array:
    """Their labels, int32."""
    assert isinstance(dataset, Dataset)  # `check` has seen to it
    return jnp.asarray(dataset.train.labels[:count], jnp.int32)
