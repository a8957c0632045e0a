"""Small graphs written out by hand."""

import numpy as np

from deploy.graphs.graph import Graph, Node, Value

CONV = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def chain(steps, shape, constants=None, **options):
    """A graph of nodes (operation, inputs, output, output's shape, attributes) on one input.

    A name is its node's layer, too; the last output is the result.
    """
    constants = {name: np.asarray(array) for name, array in (constants or {}).items()}
    values = {"input": Value(shape)}
    values |= {name: Value(array.shape, str(array.dtype)) for name, array in constants.items()}
    nodes = []
    for operation, inputs, output, of, attributes in steps:
        values[output] = Value(of)
        nodes.append(
            Node(
                operation=operation,
                inputs=inputs,
                output=output,
                attributes=attributes,
                layer=output,
            )
        )
    return Graph(
        inputs=("input",),
        outputs=(nodes[-1].output,),
        nodes=tuple(nodes),
        values=values,
        constants=constants,
        **options,
    )


def small(seed=0, batch=2):
    """Convolution with ReLU, max pool, reshape, dense, softmax over images [B, 4, 4, 1]."""
    rng = np.random.default_rng(seed)
    constants = {
        "conv/kernel": rng.normal(size=(3, 3, 1, 3)).astype("f4"),
        "conv/bias": rng.normal(size=3).astype("f4"),
        "dense/kernel": rng.normal(size=(12, 5)).astype("f4"),
        "dense/bias": rng.normal(size=5).astype("f4"),
    }
    pool = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    bounds = {"bounds": (0.0, float("inf"))}
    steps = [
        ("conv", ("input", "conv/kernel", "conv/bias"), "conv", (batch, 4, 4, 3), CONV | bounds),
        ("max_pool", ("conv",), "pool", (batch, 2, 2, 3), pool),
        ("reshape", ("pool",), "flat", (batch, 12), {}),
        ("dense", ("flat", "dense/kernel", "dense/bias"), "dense", (batch, 5), {}),
        ("softmax", ("dense",), "logits", (batch, 5), {"axis": 1}),
    ]
    return chain(steps, (batch, 4, 4, 1), constants)


def images(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 4, 4, 1)).astype("f4")
