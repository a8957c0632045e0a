"""Small graphs by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deploy.graphs.graph import Graph, Node, Value


def arrays(*shapes: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Returns an array of normal numbers for each shape."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def graph(
    nodes: Sequence[tuple[Any, ...]],
    values: Mapping[str, np.ndarray],
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    **options: Any,
) -> Graph:
    """Returns a graph.

    Args:
      nodes: operation, inputs, output, and if it has them its attributes.
      values: an example of every value; those that are neither an input nor made by a node are
        constants.
      inputs: of the graph.
      outputs: of the graph.
      **options: other attributes of the graph.
    """
    made = {node[2] for node in nodes}
    return Graph(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        nodes=tuple(
            Node(
                operation=node[0], inputs=tuple(node[1]), output=node[2], attributes=dict(*node[3:])
            )
            for node in nodes
        ),
        values={name: Value(np.shape(array), str(array.dtype)) for name, array in values.items()},
        constants={n: a for n, a in values.items() if n not in made and n not in inputs},
        **options,
    )
