"""A graph of one node for each operation and kind of attributes, and what numpy says of it."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from deploy.graphs.graph import FREE, Graph, Grid, Node, Stored, Value

RELU, RELU6, EVEN = (0.0, math.inf), (0.0, 6.0), (-1.0, 1.0)
NO, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))
UNIT, SIGNED = Grid(1 / 256, -128), Grid(1 / 128, 0)


class Case(NamedTuple):
    """One node: the shapes of its inputs, constants behind them, its attributes."""

    operation: str
    shapes: tuple
    attributes: dict
    constants: tuple = ()
    shape: tuple | None = None  # of the result where the operation does not tell
    positive: bool = False


def _rng(seed=0):
    return np.random.default_rng(seed)


def floats(*shape, seed=0):
    return _rng(seed).normal(size=shape).astype(np.float32)


def _conv(kernel, strides=(1, 1), padding=NO, dilation=(1, 1), groups=1, bounds=FREE, size=(7, 8)):
    settings = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    constants = (floats(*kernel), floats(kernel[-1], seed=1))
    shape = (2, *size, kernel[2] * groups)
    return Case("conv", (shape,), settings | {"bounds": bounds}, constants)


def _pool(operation, window, strides, padding):
    settings = {"window": window, "strides": strides, "padding": padding}
    return Case(operation, ((2, 7, 8, 3),), settings)


def _dense(shape, bounds=FREE):
    return Case("dense", (shape,), {"bounds": bounds}, (floats(shape[-1], 5), floats(5, seed=1)))


def _reduce(operation, axes, keepdims=False):
    return Case(operation, ((2, 5, 4, 3),), {"axes": axes, "keepdims": keepdims})


SHAPE = (2, 5, 4)
CASES = {
    "conv": _conv((3, 3, 4, 5), padding=ONE, bounds=RELU),
    "conv/valid": _conv((3, 2, 4, 5), strides=(2, 1)),
    "conv/stride 2, padding 1": _conv((3, 3, 4, 5), (2, 2), ONE, bounds=RELU6, size=(8, 8)),
    "conv/stride 2, same": _conv((3, 3, 4, 5), (2, 2), ((0, 1), (0, 1)), size=(8, 8), bounds=EVEN),
    "conv/dilated": _conv((3, 3, 4, 5), (1, 1), ((2, 2), (2, 2)), (2, 2), bounds=(-2.0, 3.0)),
    "conv/groups": _conv((3, 3, 2, 6), (2, 2), ONE, groups=2, bounds=RELU),
    "conv/depth": _conv((3, 3, 1, 4), (2, 2), ONE, groups=4, bounds=RELU6, size=(8, 8)),
    "conv/depth, dilated, twice": _conv((3, 3, 1, 8), (1, 1), ONE, (2, 1), groups=4),
    "conv/one channel": _conv((3, 3, 1, 6), padding=ONE),
    "dense": _dense((3, 20), RELU),
    "dense/other bounds": _dense((3, 20), (-0.5, 2.0)),
    "dense/three axes": _dense((2, 4, 20)),
    "matmul": Case("matmul", ((2, 4, 5), (2, 5, 6)), {}),
    "add": Case("add", (SHAPE, SHAPE), {"bounds": RELU}),
    "add/constant": Case("add", (SHAPE,), {"bounds": FREE}, (floats(4),)),
    "sub": Case("sub", (SHAPE, (2, 1, 1)), {}),
    "mul": Case("mul", (SHAPE, SHAPE), {}),
    "mul/constant": Case("mul", (SHAPE,), {}, (np.float32(0.3),)),
    "div": Case("div", (SHAPE,), {}, (np.float32(1.7),)),
    "max": Case("max", (SHAPE, SHAPE), {}),
    "min": Case("min", (SHAPE,), {}, (np.float32(0.3),)),
    "pow": Case("pow", (SHAPE,), {}, (np.float32(2.0),)),
    "clip/relu": Case("clip", (SHAPE,), {"bounds": RELU}),
    "clip/relu6": Case("clip", (SHAPE,), {"bounds": RELU6}),
    "clip/other": Case("clip", (SHAPE,), {"bounds": (-0.7, math.inf)}),
    "sigmoid": Case("sigmoid", (SHAPE,), {}),
    "tanh": Case("tanh", (SHAPE,), {}),
    "exp": Case("exp", (SHAPE,), {}),
    "log": Case("log", (SHAPE,), {}, positive=True),
    "sqrt": Case("sqrt", (SHAPE,), {}, positive=True),
    "rsqrt": Case("rsqrt", (SHAPE,), {}, positive=True),
    "neg": Case("neg", (SHAPE,), {}),
    "abs": Case("abs", (SHAPE,), {}),
    "sign": Case("sign", (SHAPE,), {}),
    "max_pool": _pool("max_pool", (2, 2), (2, 2), NO),
    "max_pool/padded": _pool("max_pool", (3, 3), (2, 2), ONE),
    "max_pool/same": _pool("max_pool", (3, 3), (1, 1), ONE),
    "average_pool": _pool("average_pool", (2, 2), (2, 2), NO),
    "average_pool/padded": _pool("average_pool", (3, 3), (1, 1), ONE),
    "mean": _reduce("mean", (1, 2)),
    "mean/last": _reduce("mean", (3,), True),
    "sum": _reduce("sum", (1, 2)),
    "reduce_max": _reduce("reduce_max", (1,)),
    "softmax": Case("softmax", ((3, 10),), {"axis": 1}),
    "softmax/middle": Case("softmax", (SHAPE,), {"axis": 1}),
    "reshape": Case("reshape", (SHAPE,), {}, shape=(2, 20)),
    "broadcast": Case("broadcast", ((2, 1, 4),), {}, shape=(2, 3, 4)),
    "transpose": Case("transpose", ((2, 5, 4, 2, 3),), {"permutation": (0, 2, 1, 4, 3)}),
    "concat": Case("concat", (SHAPE, (2, 3, 4)), {"axis": 1}),
    "pad": Case("pad", (SHAPE,), {"pads": ((0, 0), (1, 2), (0, 1)), "value": 0.0}),
    "pad/ones": Case("pad", (SHAPE,), {"pads": ((0, 0), (1, 2), (0, 1)), "value": 1.0}),
    "slice": Case("slice", (SHAPE,), {"begin": (0, 1, 0), "end": SHAPE, "strides": (1, 2, 1)}),
    "channel_shuffle": Case("channel_shuffle", ((2, 5, 4, 6),), {"groups": 2}, shape=(2, 5, 4, 6)),
}


def arguments(case, seed=2):
    """Inputs of a case, float32; each of another spread, so that grids differ."""
    found = [floats(*shape, seed=seed + k) * (1 + k) for k, shape in enumerate(case.shapes)]
    return [np.abs(x) + np.float32(0.1) if case.positive else x for x in found]


def graph_of(case):
    """The graph of floats."""
    names = [f"x{k}" for k in range(len(case.shapes))]
    constants = {f"c{k}": np.asarray(array) for k, array in enumerate(case.constants)}
    node = Node(
        operation=case.operation,
        inputs=(*names, *constants),
        output="logits",
        attributes=case.attributes,
        layer="layer",
    )
    values = {name: Value(shape) for name, shape in zip(names, case.shapes, strict=True)}
    values |= {name: Value(array.shape) for name, array in constants.items()}
    values["logits"] = Value(expected(case, arguments(case)).shape)
    return Graph(
        inputs=tuple(names),
        outputs=("logits",),
        nodes=(node,),
        values=values,
        constants=constants,
    )


def integer_graph_of(case):
    """The graph with grids over what the arguments give, and kernels of codes."""
    graph, inputs = graph_of(case), arguments(case)
    grids = {name: grid(x) for name, x in zip(graph.inputs, inputs, strict=True)}
    grids["logits"] = {"sigmoid": UNIT, "softmax": UNIT, "tanh": SIGNED}.get(
        case.operation, grid(expected(case, inputs))
    )
    if case.operation == "average_pool":
        grids["logits"] = grids["x0"]
    stored, constants = {}, dict(graph.constants)
    if case.operation in ("conv", "dense"):
        kernel = constants["c0"]
        scales = np.abs(kernel).max(tuple(range(kernel.ndim - 1))).astype(np.float32) / 127
        stored["c0"] = Stored(np.rint(kernel / scales).astype(np.int8), scales)
        constants["c0"] = stored["c0"].codes * scales
    return dataclasses.replace(graph, grids=grids, stored=stored, constants=constants)


def grid(array):
    """256 steps over an array and zero."""
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
    scale = float(np.float32((high - low) / 255 or 1.0))
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, 255)) - 128)


def on_grid(array, at):
    """The nearest points of a grid, float64."""
    codes = np.clip(np.rint(np.asarray(array, np.float64) / at.scale) + at.zero, -128, 127)
    return (codes - at.zero) * float(np.float32(at.scale))


def expected(case, inputs, constants=None):
    """The result in float64, by numpy."""
    given = [np.asarray(x, np.float64) for x in (*inputs, *(constants or case.constants))]
    result = _computed(case, given)
    return np.clip(result, *case.attributes.get("bounds", FREE))


def _computed(case, given):
    options, x = case.attributes, given[0]
    match case.operation:
        case "conv":
            return _convolved(*given, options)
        case "dense":
            return x @ given[1] + given[2]
        case "max_pool" | "average_pool":
            maximum = case.operation == "max_pool"
            seen = _windows(x, options, -np.inf if maximum else 0.0)
            return seen.max((-2, -1)) if maximum else seen.mean((-2, -1))
        case "mean" | "sum" | "reduce_max":
            reduce = {"mean": np.mean, "sum": np.sum, "reduce_max": np.max}[case.operation]
            return reduce(x, axis=options["axes"], keepdims=options["keepdims"])
        case "softmax":
            powers = np.exp(x - x.max(options["axis"], keepdims=True))
            return powers / powers.sum(options["axis"], keepdims=True)
        case "reshape":
            return x.reshape(case.shape)
        case "broadcast":
            return np.broadcast_to(x, case.shape)
        case "transpose":
            return np.transpose(x, options["permutation"])
        case "concat":
            return np.concatenate(given, options["axis"])
        case "pad":
            return np.pad(x, options["pads"], constant_values=options["value"])
        case "slice":
            return x[:, 1::2]
        case "channel_shuffle":
            order = np.arange(x.shape[-1]).reshape(options["groups"], -1).T.ravel()
            return x[..., order]
    return FUNCTIONS[case.operation](*given)


FUNCTIONS = {
    "matmul": np.matmul,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "clip": np.positive,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
}


def _windows(x, options, fill):
    padded = np.pad(x, ((0, 0), *options["padding"], (0, 0)), constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(padded, options["window"], (1, 2))
    return seen[:, :: options["strides"][0], :: options["strides"][1]]


def _convolved(x, kernel, bias, options):
    """Every output channel by itself, over windows as wide as the dilated kernel."""
    down, across = options["dilation"]
    wide = [(size - 1) * step + 1 for size, step in zip(kernel.shape, (down, across), strict=False)]
    seen = _windows(x, options | {"window": tuple(wide)}, 0.0)[..., ::down, ::across]
    inputs, outputs = kernel.shape[2:]
    each = outputs // options["groups"]
    found = []
    for k in range(outputs):
        first = k // each * inputs
        found.append(
            np.einsum("bhwcij,ijc->bhw", seen[..., first : first + inputs, :, :], kernel[..., k])
        )
    return np.stack(found, -1) + bias
