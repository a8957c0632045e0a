"""A network tried on random inputs: what it takes, and whether two of it compute the same."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.errors import reason
from pruning.structured import Graph
from pruning.structured.program import evaluation, trace

SIZES = (28, 32, 8, 64, 16, 224, 96, 4)  # of images that are tried where no example is given
SEVERAL = 4  # random inputs that stand for one: of one alone, many units may be zero
SAME = 1e-3  # of the largest output: what orders of summation may change


def outputs_of(graph: Graph, like: Any, example: Any) -> Callable[[Any], list[np.ndarray]]:
    """Returns variables → what the network computes of random inputs, compiled once.

    Args:
      graph: of the network.
      like: variables, whose leaves that are no arrays are taken from here.
      example: inputs [B, …], arrays or shapes.
    """
    call, inputs = evaluation(graph.model), _inputs(example)

    @jax.jit
    def computed(arrays: dict[str, Any]) -> Any:
        return call(trees.map_with_path(lambda path, leaf: arrays.get(path, leaf), like), inputs)

    def outputs(variables: Any) -> list[np.ndarray]:
        flat = trees.flatten(variables)
        with jax.default_matmul_precision("highest"):
            found = computed({path: flat[path] for path in graph.axes})
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    return outputs


def same(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> bool:
    """Returns whether outputs differ by no more than rounding makes them."""
    return all(
        np.abs(a - b).max(initial=0) <= SAME * np.abs(b).max(initial=0)
        for a, b in zip(one, two, strict=True)
    )


def _inputs(example: Any) -> Any:
    """Returns random inputs, several where one was given; integers are zeros and ones."""
    generator = np.random.default_rng(0)
    several = all(leaf.shape[:1] == (1,) for leaf in jax.tree.leaves(example))

    def one(leaf: Any) -> np.ndarray:
        shape = (SEVERAL, *leaf.shape[1:]) if several else leaf.shape
        if np.issubdtype(leaf.dtype, np.integer):
            return generator.integers(0, 2, shape).astype(leaf.dtype)
        return generator.standard_normal(shape).astype(leaf.dtype)

    return jax.tree.map(one, example)


def example_of(model: Any, variables: Any) -> tuple[int, ...]:
    """Returns the shape of one example that a network takes: a vector or an image.

    Raises:
      ValueError: it takes none of the usual shapes.
    """
    call, said = evaluation(model), "it has no kernels"
    for shape in _shapes(variables):
        try:
            trace(call, variables, trees.example(shape))
        except Exception as error:  # a user's network may raise anything
            said = reason(error)
        else:
            return shape
    raise ValueError(f"give an example=: the network takes none of the usual shapes ({said})")


def _shapes(variables: Any) -> Iterator[tuple[int, ...]]:
    shapes = [np.shape(leaf) for leaf in trees.flatten(variables).values()]
    kernels = [shape for shape in shapes if len(shape) == 2]  # [inputs, outputs], or turned round
    widths = dict.fromkeys(shape[axis] for axis in (0, 1) for shape in kernels)
    yield from ((width,) for width in widths)
    channels = sorted({shape[2] for shape in shapes if len(shape) == 4})
    yield from ((size, size, count) for count in channels for size in SIZES)
