"""What all parts of a run share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from compress import form as form_lib
from compress import share
from compress.form import Form
from compress.spec import CompressSpec
from groundwork.data.dataset import AnyDataset, Dataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs import trained
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.train import replicates
from lowrank import setup as lowrank_setup
from lowrank.spec import LowRankSpec
from pruning import masks, schedule


class Experiment(NamedTuple):
    """What all networks of a run share."""

    spec: CompressSpec
    model: nn.Module
    dataset: AnyDataset
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


def given(spec: CompressSpec, shapes: Any) -> Any:
    """The variables [R, …] of the network that `source` names, checked against the shapes."""
    found = trained.load(spec.source.path, spec.source.unit)
    return trained.replicated(found, shapes, spec.replicates, spec.source.path)


def zeros(params: Any) -> masks.Mask:
    """Where kernels have zeros among their entries: their mask; empty where none has."""
    mask = {path: leaf != 0 for path, leaf in masks.flatten(params).items()}
    return mask if any(not kept.all() for kept in mask.values()) else {}


def prunable(spec: CompressSpec, params: Any) -> dict[str, Any]:
    """Path → leaf, of those that may be pruned.

    Raises:
      UserError: there is none.
    """
    found = masks.flatten(params, spec.prune.is_prunable)
    if not found:
        paths = ", ".join(masks.flatten(params, lambda path: True))
        raise UserError(f"prune.prunable={spec.prune.prunable} matches none of {paths}")
    return found


def remaining(
    spec: CompressSpec, mask: Mapping[str, np.ndarray], level: int
) -> tuple[dict[str, tuple[str, ...]], dict[str, np.ndarray]]:
    """Which leaves are ranked together, and how many weights of each group a level keeps, [R].

    `geometric` counts from those that are left, which are fewer than its own levels say where the
    network was pruned before; `linear` from all.

    Args:
      spec: of the run.
      mask: path → [R, …], of what is prunable, before the level.
      level: from 1.

    Raises:
      UserError: as `pruning.schedule.plan`.
    """
    rules, plans = spec.prune, []
    for r in range(spec.replicates):
        if rules.schedule == "linear":
            own = {path: leaf[r] for path, leaf in mask.items()}
            found = schedule.plan(own, rules.rate, rules.scope, level, rules.schedule)
        else:
            own = {path: leaf[r][leaf[r]] for path, leaf in mask.items()}
            found = schedule.plan(own, rules.rate, rules.scope, 1, rules.schedule)
        plans.append(found)
    counts = {
        name: np.array([plan.kept[-1][name] for plan in plans], np.int32) for name in plans[0].paths
    }
    return plans[0].paths, counts


def low_rank(experiment: Experiment, form: Form, params: Any) -> lowrank_setup.Experiment:
    """The experiment as `lowrank` asks for it, around the module of a form with these params."""
    return lowrank_setup.Experiment(
        low_rank_spec(experiment.spec, form, params, experiment.dataset.shape),
        form.model,
        experiment.dataset,
        experiment.mesh,
        experiment.run,
        experiment.reporter,
        experiment.interruption,
        experiment.roots,
    )


def low_rank_spec(
    spec: CompressSpec, form: Form, params: Any, shape: tuple[int, ...]
) -> LowRankSpec:
    """The part of the spec that `lowrank` knows; of tied layers the first stands for all.

    Args:
      spec: of the run.
      form: its groups say what is tied.
      params: in that form, arrays or shapes.
      shape: of an example.
    """
    left = share.layers_left(params, form.groups)
    layers = form_lib.reached(form, shape) if left else ()
    tied = [path for path in layers if any(f"{path}/".startswith(f"{own}/") for own in left)]
    decompose = spec.factorize.decompose
    leave = tuple(dict.fromkeys([*decompose.leave, *tied]))
    keys = ("seed", "replicates", "eval_every", "source", "train", "optimizer", "fine_tune")
    more = ("fine_tune_optimizer", "mesh", "checkpoint", "log")
    same = {key: getattr(spec, key) for key in (*keys, *more)}
    return LowRankSpec(predict=(), decompose=dataclasses.replace(decompose, leave=leave), **same)


def put(experiment: Experiment, trees: Any) -> Any:
    """Trees [R, …] on the devices, split by replicate."""
    return mesh_lib.put(experiment.mesh, trees, mesh_lib.BY_REPLICATE)


def mapped(experiment: Experiment, function: Callable[..., Any], *trees: Any) -> Any:
    """A function of one replicate on trees [R, …], once; on the host."""
    compiled = replicates.each_replicate(experiment.mesh, function, once=True)
    return mesh_lib.fetch(compiled(*put(experiment, trees)))


def examples(dataset: AnyDataset, count: int) -> jax.Array:
    """The first training images as network inputs."""
    return lowrank_setup.training_inputs(dataset, count)


def labels(dataset: AnyDataset, count: int) -> jax.Array:
    """Their labels, int32."""
    assert isinstance(dataset, Dataset)  # `check` has seen to it
    return jnp.asarray(dataset.train.labels[:count], jnp.int32)
