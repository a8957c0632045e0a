"""Arrays of PyTorch's layers as ours, and ours as PyTorch's. Read `from_torch` first."""

# O outputs, I inputs, H W window or image, C channels

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.trees import Shapes, Variables

LEAVES = {  # the last part of our paths → of PyTorch's names
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
COUNTER = "num_batches_tracked"  # of PyTorch's BatchNorm: no part of the network's function
SHOWN = 5  # names in an error


class Named(NamedTuple):
    """PyTorch's name of a layer, where its layout is not told by its shape.

    Attributes:
      name: of the layer.
      channels: C of the images whose pixels a dense layer takes: PyTorch has them in the order
        C, H, W, and we in the order H, W, C. 0 = the layer takes a vector.
    """

    name: str
    channels: int = 0


Layers = Mapping[str, str | Named]
"""Path of our layer, such as `block1_1/conv1` → PyTorch's name, such as `layer1.0.conv1`."""


def from_torch(layers: Layers, tensors: Mapping[str, np.ndarray], shapes: Shapes) -> Variables:
    """Returns a network's variables out of a state dict.

    Args:
      layers: see `Layers`.
      tensors: PyTorch's name → array. Kernels are [O, I, H, W] or [O, I].
      shapes: of the network's variables; kernels are [H, W, I, O] or [I, O].

    Raises:
      ValueError: see `check`.

    Example:
        >>> from groundwork.architectures import pretrained
        >>> tensors = {"classifier.1.weight": np.array([[1.0, 2.0, 3.0]], np.float32)}  # [1, 3]
        >>> shapes = {"params": {"fc1": {"kernel": jax.ShapeDtypeStruct((3, 1), np.float32)}}}
        >>> variables = pretrained.from_torch({"fc1": "classifier.1"}, tensors, shapes)
        >>> variables["params"]["fc1"]["kernel"].tolist()
        [[1.0], [2.0], [3.0]]
    """
    check(layers, tensors, shapes)
    found = {}
    for path, leaf in trees.flatten(shapes).items():
        name, channels = name_of(layers, path)
        found[path] = _ours(np.asarray(tensors[name]), channels).astype(leaf.dtype)
    return trees.unflatten(found, shapes)


def check(layers: Layers, tensors: Mapping[str, Any], shapes: Shapes) -> None:
    """Checks names, shapes and types of a state dict, whose arrays may be headers of a file.

    Args:
      layers: see `Layers`.
      tensors: PyTorch's name → what has a `shape` and a `dtype`.
      shapes: of the network's variables.

    Raises:
      ValueError: a tensor is missing, is of no floats, has another shape, or is not needed.
    """
    wanted = trees.flatten(shapes)
    needed = {name_of(layers, path)[0]: path for path in wanted}
    given = without_counters(tensors)
    left = given - needed.keys()
    if missing := [name for name in needed if name not in given]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        instead = f"; it has {listed(left)} instead" if left else ""
        raise ValueError(
            f"{missing[0]} is missing, which is {needed[missing[0]]} here{more}{instead}"
        )
    if left:
        raise ValueError(f"it has {listed(left)} besides, which this network has not")
    for path, leaf in wanted.items():
        name, _ = name_of(layers, path)
        given_shape, meant = tuple(tensors[name].shape), _their_shape(tuple(leaf.shape))
        if given_shape != meant:
            raise ValueError(f"{name} has the shape {given_shape}, not {meant}, which {path} needs")
        if not jnp.issubdtype(tensors[name].dtype, jnp.floating):  # of NumPy's and of JAX's own
            raise ValueError(f"{name} is of {tensors[name].dtype}, not of floats")


def to_torch(layers: Layers, variables: Variables) -> dict[str, np.ndarray]:
    """Returns a network's variables as a state dict, PyTorch's name → array.

    BatchNorm's counters of batches are 0. See `from_torch`.
    """
    found = {}
    for path, leaf in trees.flatten(variables).items():
        name, channels = name_of(layers, path)
        found[name] = np.ascontiguousarray(_theirs(np.asarray(leaf), channels))
        if path.endswith("/var"):
            found[f"{name.rpartition('.')[0]}.{COUNTER}"] = np.array(0, np.int64)
    return found


def name_of(layers: Layers, path: str) -> tuple[str, int]:
    """Returns PyTorch's name of one of our leaves, and C of the images that it flattens, or 0."""
    _, _, inside = path.partition("/")  # without `params` or `batch_stats`
    layer, _, last = inside.rpartition("/")
    given = layers[layer]
    named = given if isinstance(given, Named) else Named(given)
    return f"{named.name}.{LEAVES[last]}", named.channels if last == "kernel" else 0


def without_counters(names: Iterable[str]) -> set[str]:
    """Returns the names of tensors that a network computes with."""
    return {name for name in names if name.rpartition(".")[2] != COUNTER}


def listed(names: Iterable[str]) -> str:
    """Returns the first names in words, and how many more there are."""
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def _ours(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim != 2:
        return array
    if not channels:
        return array.T
    outputs, inputs = array.shape
    return array.reshape(outputs, channels, -1).transpose(2, 1, 0).reshape(inputs, outputs)


def _their_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in (3, 2, 0, 1)) if len(shape) == 4 else shape[::-1]


def _theirs(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim != 2:
        return array
    if not channels:
        return array.T
    inputs, outputs = array.shape
    return array.reshape(-1, channels, outputs).transpose(2, 1, 0).reshape(outputs, inputs)
