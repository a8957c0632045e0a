"""Operations that move entries of any kind, and arithmetic of indices and conditions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from deploy.graphs.graph import FREE, Node, Unsupported, Value

INDICES: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "max": np.maximum,
        "min": np.minimum,
        "neg": np.negative,
        "abs": np.abs,
        "equal": np.equal,
        "less": np.less,
        "greater": np.greater,
        "where": np.where,
    }
)
"""Arithmetic of indices and conditions, which are integers from the start."""


def movement(node: Node, codes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the entries of an operation that only moves them; None if it is none of these."""
    options = node.attributes
    match node.operation:
        case "reshape":
            return codes.reshape(shape)
        case "broadcast":
            return np.broadcast_to(codes, shape)
        case "transpose":
            return codes.transpose(options["permutation"])
        case "slice":
            parts = zip(options["begin"], options["end"], options["strides"], strict=True)
            return codes[tuple(slice(*part) for part in parts)]
        case "channel_shuffle":
            return codes.reshape(*shape[:-1], options["groups"], -1).swapaxes(-1, -2).reshape(shape)
    return None


def of_indices(node: Node, given: list[np.ndarray], value: Value) -> np.ndarray:
    """Returns the result of a node that reads and gives indices or conditions.

    Raises:
      Unsupported: there is no rule for the operation, or it reads values that have a grid.
    """
    moved = movement(node, given[0], value.shape)
    if moved is not None:
        return moved
    if node.operation == "concat":
        return np.concatenate(given, node.attributes["axis"])
    if node.operation == "clip":
        return np.clip(given[0], *node.attributes["bounds"]).astype(value.dtype)
    if node.operation == "cast":
        return given[0].astype(value.dtype)
    if node.operation not in INDICES or node.attributes.get("bounds", FREE) != FREE:
        raise Unsupported("integer-only inference", node)
    return INDICES[node.operation](*given).astype(value.dtype)
