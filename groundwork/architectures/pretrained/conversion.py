"""Arrays of PyTorch's layers as ours, and ours as PyTorch's. Read `from_torch` first."""

# O outputs, I inputs, H W window or image, C channels

from collections.abc import Mapping
from typing import NamedTuple

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


class Named(NamedTuple):
    """PyTorch's name of a layer, where its layout is not told by its shape.

    Attributes:
      name: of the layer.
      channels: C of the images whose pixels a dense layer takes: PyTorch has them in the order
        C, H, W, and we in the order H, W, C. 0 = the layer takes a vector.
    """

    name: str
    channels: int = 0


def from_torch(
    layers: Mapping[str, str | Named], tensors: Mapping[str, np.ndarray], shapes: Shapes
) -> Variables:
    """Returns a network's variables out of a state dict.

    Args:
      layers: path of our layer, such as `block1_1/conv1` → PyTorch's name, such as
        `layer1.0.conv1`.
      tensors: PyTorch's name → array. Kernels are [O, I, H, W] or [O, I].
      shapes: of the network's variables; kernels are [H, W, I, O] or [I, O].

    Raises:
      ValueError: a tensor is missing, has another shape, or is not needed.
    """
    wanted = trees.flatten(shapes)
    left = {name for name in tensors if name.rpartition(".")[2] != COUNTER}
    found = {}
    for path, leaf in wanted.items():
        name, channels = _name(layers, path)
        if name not in tensors:
            raise ValueError(f"{name} is missing, which is {path} here")
        left.discard(name)
        array = _ours(np.asarray(tensors[name]), channels)
        if array.shape != tuple(leaf.shape):
            there = _theirs(np.broadcast_to(np.float32(0), leaf.shape), channels).shape
            raise ValueError(f"{name} has the shape {tensors[name].shape}, not {there}")
        found[path] = array.astype(leaf.dtype)
    if left:
        raise ValueError(f"{_listed(left)} are no tensors of this network")
    return trees.unflatten(found, shapes)


def to_torch(layers: Mapping[str, str | Named], variables: Variables) -> dict[str, np.ndarray]:
    """Returns a network's variables as a state dict, PyTorch's name → array.

    BatchNorm's counters of batches are 0. See `from_torch`.
    """
    found = {}
    for path, leaf in trees.flatten(variables).items():
        name, channels = _name(layers, path)
        found[name] = np.ascontiguousarray(_theirs(np.asarray(leaf), channels))
        if path.endswith("/var"):
            found[f"{name.rpartition('.')[0]}.{COUNTER}"] = np.array(0, np.int64)
    return found


def _name(layers: Mapping[str, str | Named], path: str) -> tuple[str, int]:
    """Returns PyTorch's name of one of our leaves, and C of the images that it flattens, or 0."""
    _, _, inside = path.partition("/")  # without `params` or `batch_stats`
    layer, _, last = inside.rpartition("/")
    given = layers[layer]
    named = given if isinstance(given, Named) else Named(given)
    return f"{named.name}.{LEAVES[last]}", named.channels if last == "kernel" else 0


def _ours(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim != 2:
        return array
    if not channels or array.shape[1] % channels:
        return array.T
    outputs, inputs = array.shape
    return array.reshape(outputs, channels, -1).transpose(2, 1, 0).reshape(inputs, outputs)


def _theirs(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim != 2:
        return array
    if not channels:
        return array.T
    inputs, outputs = array.shape
    return array.reshape(-1, channels, outputs).transpose(2, 1, 0).reshape(outputs, inputs)


def _listed(names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more
