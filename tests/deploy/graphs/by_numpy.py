"""What a graph computes, by numpy in float64: nothing is compiled, and nothing is ours."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

ENTRIES = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "clip": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "where": np.where,
    "equal": np.equal,
    "less": np.less,
    "greater": np.greater,
    "matmul": np.matmul,
}


def outputs(graph, *inputs):
    """The results of a graph in order, float64."""
    values = {name: wide(array) for name, array in graph.constants.items()}
    values |= {name: wide(array) for name, array in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        found = compute(node, given, graph.values[node.output].shape)
        low, high = node.attributes.get("bounds", (-np.inf, np.inf))
        found = np.clip(found, low, high) if (low, high) != (-np.inf, np.inf) else found
        assert found.shape == graph.values[node.output].shape, node
        values[node.output] = found
    return [values[name] for name in graph.outputs]


def wide(array):
    array = np.asarray(array)
    return array.astype(float) if array.dtype == np.float32 else array


def compute(node, given, shape):
    options, x = node.attributes, given[0]
    if node.operation in ENTRIES:
        return ENTRIES[node.operation](*given)
    match node.operation:
        case "conv":
            return conv(*given, **options)
        case "dense":
            return x @ given[1] + given[2]
        case "max_pool":
            return windows(x, -np.inf, **options).max((-2, -1))
        case "average_pool":
            return windows(x, 0.0, **options).mean((-2, -1))
        case "mean" | "sum" | "reduce_max":
            reduce = {"mean": np.mean, "sum": np.sum, "reduce_max": np.max}[node.operation]
            return reduce(x, options["axes"], keepdims=options["keepdims"])
        case "softmax":
            exp = np.exp(x - x.max(options["axis"], keepdims=True))
            return exp / exp.sum(options["axis"], keepdims=True)
        case "cast":
            return wide(x.astype(options["dtype"]))
        case "reshape":
            return x.reshape(shape)
        case "broadcast":
            return np.broadcast_to(x, shape)
        case "transpose":
            return x.transpose(options["permutation"])
        case "concat":
            return np.concatenate(given, options["axis"])
        case "pad":
            return np.pad(x, options["pads"], constant_values=options["value"])
        case "slice":
            return x[tuple(map(slice, options["begin"], options["end"], options["strides"]))]
        case "channel_shuffle":
            split = x.reshape(*shape[:-1], options["groups"], -1)
            return split.swapaxes(-1, -2).reshape(shape)
        case "gather":
            return x[given[1]]
    raise AssertionError(node.operation)


def windows(x, fill, window, strides, padding, dilation=(1, 1), **_):
    """[B, H', W', C, h, w]: what each window sees."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    reach = [d * (n - 1) + 1 for d, n in zip(dilation, window, strict=True)]
    seen = sliding_window_view(x, reach, (1, 2))
    return seen[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def conv(x, kernel, bias, groups, **options):
    high, wide_, inside, outside = kernel.shape
    seen = windows(x, 0.0, (high, wide_), **{k: v for k, v in options.items() if k != "bounds"})
    parts = [
        np.einsum(
            "bhwcij,ijco->bhwo",
            seen[..., g * inside : (g + 1) * inside, :, :],
            kernel[..., g * (outside // groups) : (g + 1) * (outside // groups)],
            optimize=True,
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, -1) + bias
