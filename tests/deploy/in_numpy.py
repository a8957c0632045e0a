"""What a graph computes, in numpy: windows by sliding views, sums in float64, no JAX."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

ENTRIES = {
    "matmul": np.matmul,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "clip": lambda x: x,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": special.erf,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "where": np.where,
    "equal": np.equal,
    "less": np.less,
    "greater": np.greater,
}


def run(graph, *inputs):
    """Returns the results of a graph, each value moved to its grid."""
    found = values(graph, *inputs)
    return [found[name] for name in graph.outputs]


def values(graph, *inputs):
    """Returns the values of a graph, constants included."""
    values = {name: wide(array) for name, array in graph.constants.items()}
    for name, array in zip(graph.inputs, inputs, strict=True):
        values[name] = on_grid(wide(array), graph.grids.get(name))
    for node in graph.nodes:
        found = one(node, [values[i] for i in node.inputs], graph.values[node.output].shape)
        if "bounds" in node.attributes:
            found = np.clip(found, *node.attributes["bounds"])
        assert found.shape[1:] == graph.values[node.output].shape[1:], node
        values[node.output] = on_grid(found, graph.grids.get(node.output))
    return values


def wide(array):
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype == np.float32 else array


def on_grid(value, grid):
    if grid is None:
        return value
    return (np.clip(np.rint(value / grid.scale) + grid.zero, -128, 127) - grid.zero) * grid.scale


def one(node, given, shape):
    at, x = node.attributes, given[0]
    if node.operation in ENTRIES:
        return ENTRIES[node.operation](*given)
    match node.operation:
        case "conv":
            return conv(*given, at)
        case "dense":
            return x @ given[1] + given[2]
        case "max_pool":
            return windows(x, at, -math.inf).max((-1, -2))
        case "average_pool":
            return windows(x, at, 0).mean((-1, -2))
        case "mean" | "sum" | "reduce_max":
            reduce = {"mean": np.mean, "sum": np.sum, "reduce_max": np.max}[node.operation]
            return reduce(x, axis=at["axes"], keepdims=at["keepdims"])
        case "softmax":
            return special.softmax(x, axis=at["axis"])
        case "cast":
            return wide(x.astype(at["dtype"]))
        case "reshape":
            return x.reshape(shape)
        case "broadcast":
            return np.broadcast_to(x, shape)
        case "transpose":
            return x.transpose(at["permutation"])
        case "concat":
            return np.concatenate(given, at["axis"])
        case "pad":
            return np.pad(x, at["pads"], constant_values=at["value"])
        case "slice":
            cuts = zip(at["begin"], at["end"], at["strides"], strict=True)
            return x[tuple(slice(*cut) for cut in cuts)]
        case "channel_shuffle":
            channels = np.arange(shape[-1]).reshape(at["groups"], -1)
            return x[..., channels.T.ravel()]
        case "gather":
            return x[given[1]]
    raise AssertionError(node.operation)


def windows(x, at, filling, window=None, dilation=(1, 1)):
    """Returns [B, H', W', C, h, w]."""
    spread = [(size - 1) * d + 1 for size, d in zip(window or at["window"], dilation, strict=True)]
    x = np.pad(x, ((0, 0), *at["padding"], (0, 0)), constant_values=filling)
    view = sliding_window_view(x, spread, (1, 2))[:, :: at["strides"][0], :: at["strides"][1]]
    return view[..., :: dilation[0], :: dilation[1]]


def conv(x, kernel, bias, at):
    view = windows(x, at, 0, kernel.shape[:2], at["dilation"])
    parts = [
        np.einsum("bxyihw,hwio->bxyo", v, k)
        for v, k in zip(
            np.split(view, at["groups"], 3), np.split(kernel, at["groups"], 3), strict=True
        )
    ]
    return np.concatenate(parts, -1) + bias
