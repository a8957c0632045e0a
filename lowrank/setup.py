"""What all parts of a run share: the network, its layers, the data, the devices."""

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError, unknown
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run
from groundwork.traced import override
from lowrank import factorization
from lowrank.spec import LowRankSpec

Shape = tuple[int, ...]


class Experiment(NamedTuple):
    """What all networks of a run share."""

    spec: LowRankSpec
    model: nn.Module
    dataset: AnyDataset
    mesh: Mesh
    run: Run
    reporter: Reporter
    interruption: Interruption
    roots: jax.Array  # [R] keys


def reached(
    spec: LowRankSpec, model: nn.Module, variables: Any, shape: Shape
) -> tuple[dict[str, override.Reached], dict[str, str]]:
    """Layers that may be decomposed; and path → why not, of the others that have weights.

    Raises:
      UserError: a pattern of `decompose.leave` that no layer has.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    found, refused = override.layers(model, variables, example)
    for pattern in spec.decompose.leave:
        if not any(fnmatchcase(path, pattern) for path in found):
            raise unknown("layer in decompose.leave", pattern, found)
    for path, layer in list(found.items()):
        if spec.decompose.left(path):
            refused[path] = "decompose.leave names it"
        elif layer.layer.groups != 1:
            refused[path] = f"it has {layer.layer.groups} groups"
    return {p: layer for p, layer in found.items() if p not in refused}, refused


def check_seen(model: nn.Module, variables: Any, paths: tuple[str, ...], shape: Shape) -> None:
    """Refuse layers that `svd_outputs` cannot decompose: what they are given is not known.

    Args:
      model: the network.
      variables: arrays or shapes; nothing is computed.
      paths: of the layers.
      shape: of an example.

    Raises:
      UserError: a layer that is called more than once, or within a scan or vmap.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        jax.eval_shape(lambda v, x: factorization.rows(model, v, paths, x), variables, example)
    except UserError as error:
        raise UserError(f"svd_outputs: {error}, or name it in decompose.leave") from error


def training_inputs(dataset: AnyDataset, count: int) -> jax.Array:
    """The first training images as network inputs [B, …], at most `count`.

    Raises:
      UserError: they are streamed, and not in memory.
    """
    if isinstance(dataset, FileDataset):
        raise UserError("images in memory are needed: set data.stream=false")
    return data_lib.normalize(dataset, jnp.asarray(dataset.train.inputs[:count]))
