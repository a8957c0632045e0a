"""The results of a network, each with the batch as its first axis. Read `split`."""

from collections.abc import Callable
from typing import Any

import jax

from deploy.graphs.draft import Draft
from deploy.graphs.rules.moves import reshaped, sliced


def split(draft: Draft, returned: Any, inputs: Any, shapes_for: Callable[[Any], Any]) -> str:
    """Takes a stack of results apart; returns how they belong together, see `Graph.structure`.

    Args:
      draft: its outputs are changed.
      returned: a tree of the shapes of what the network returns.
      inputs: a tree of the shapes [B, …] of its inputs.
      shapes_for: other shapes of inputs → what the network then returns.

    Raises:
      ValueError: a result has no axis of the batch.
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(returned)]
    batch = jax.tree.leaves(inputs)[0].shape[0]
    axes = [[axis for axis, size in enumerate(shape[:2]) if size == batch] for shape in shapes]
    for number, (shape, found) in enumerate(zip(shapes, axes, strict=True)):
        if not found or (found == [1] and len(shapes) > 1):
            raise ValueError(f"result {number} is {shape}: its first axis is not the batch {batch}")
    if len(shapes) > 1:
        return "tuple"
    is_single = jax.tree_util.treedef_is_leaf(jax.tree.structure(returned))
    if len(axes[0]) == 2 and len(shapes[0]) > 2:
        axes[0] = _varying(batch, shapes[0], inputs, shapes_for)
    if 0 in axes[0]:
        return "single" if is_single else "tuple"
    if not is_single:
        raise ValueError(f"result 0 is {shapes[0]}: its first axis is not the batch {batch}")
    (name,), shape = draft.outputs, shapes[0]
    rows = [(n, *(0,) * (len(shape) - 1)) for n in range(shape[0])]
    draft.outputs = [
        reshaped(draft, sliced(draft, name, row, (row[0] + 1, *shape[1:])), shape[1:])
        for row in rows
    ]
    return "stacked"


def _varying(
    batch: int, shape: tuple[int, ...], inputs: Any, shapes_for: Callable[[Any], Any]
) -> list[int]:
    """Returns which of the first two axes, both of the batch's size, grows with the batch."""
    larger = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch + 1, *leaf.shape[1:]), leaf.dtype), inputs
    )
    try:
        (other,) = jax.tree.leaves(shapes_for(larger))
    except (TypeError, ValueError):  # a network of this batch alone
        return [0]
    return [axis for axis in (0, 1) if other.shape[axis] != shape[axis]] or [0]
