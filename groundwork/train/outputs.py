"""A network's outputs for every example of a split, on the host; `evaluate` only counts them."""

# R replicates, N examples, B batch

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.mesh import BY_REPLICATE
from groundwork.train import replicates
from groundwork.train.step import Model
from groundwork.train.steps_from_files import SHARED, SPLIT, split_batches
from groundwork.trees import Variables

BATCH = 500


def make(
    model: Model,
    dataset: AnyDataset,
    mesh: Mesh,
    form: replicates.Form,
    answer: Callable[[Any], Any] = lambda outputs: outputs,
) -> Callable[[Variables, str], tuple[Any, Any]]:
    """Returns a function (variables, "validation" or "test") → (outputs, labels [N, …]).

    Outputs are those of `model.apply(variables, inputs, train=False)`, or what `answer` makes of
    them: a pytree whose leaves become [R, N, …], in the order of the split. All processes must
    call the function; each gets all outputs.
    """

    def apply_all(variables: Variables, images: jax.Array) -> Any:
        inputs = data_lib.normalize(dataset, images)
        return replicates.each(form)(lambda v: answer(model.apply(v, inputs, train=False)))(
            variables
        )

    apply = replicates.sharded(mesh, apply_all, (BY_REPLICATE, SHARED), SPLIT)

    def outputs(variables: Variables, split: str) -> tuple[Any, Any]:
        parts, labels = [], []
        with contextlib.closing(_batches(dataset, mesh, split)) as batches:
            for images, *answers in batches:
                part, targets, valid = mesh_lib.fetch((apply(variables, images), *answers))
                parts.append(jax.tree.map(lambda leaf, valid=valid: leaf[:, valid], part))
                labels.append(jax.tree.map(lambda leaf, valid=valid: leaf[valid], targets))
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *parts)
        return joined, jax.tree.map(lambda *leaves: np.concatenate(leaves), *labels)

    return outputs


def _batches(dataset: AnyDataset, mesh: Mesh, split: str) -> Generator[Any, None, None]:
    """Yields images, labels and valid of each batch, on the devices."""
    devices = mesh.shape["data"]
    size = -(-BATCH // devices) * devices
    if isinstance(dataset, FileDataset):
        yield from split_batches(dataset, mesh, split, size)
        return
    examples = dataset.examples[split]
    for start in range(0, examples, size):
        part = slice(start, start + size)
        missing = max(0, start + size - examples)
        valid = np.arange(size) < size - missing
        padded = jax.tree.map(
            lambda leaf, part=part, missing=missing: _padded(leaf[part], missing),
            tuple(getattr(dataset, split)),
        )
        yield mesh_lib.put(mesh, (*padded, valid), SHARED)


def _padded(array: np.ndarray, missing: int) -> np.ndarray:
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
