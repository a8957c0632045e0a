"""Small graphs built by hand, and grids for them from what they compute."""

import dataclasses

import numpy as np

from deploy.graphs.graph import Graph, Grid, Node, Stored, Value
from deploy.grids import FIXED, MOVES
from tests.deploy import in_numpy


class Hand:
    """A graph in the making: each method adds a node and returns the name of its value."""

    def __init__(self, seed=0, **shapes):
        self.random = np.random.default_rng(seed)
        self.inputs = tuple(shapes)
        self.nodes, self.constants = [], {}
        self.values = {
            name: value if isinstance(value, Value) else Value(tuple(value))
            for name, value in shapes.items()
        }

    def constant(self, array, name=None):
        name = name or f"constant{len(self.constants)}"
        array = np.asarray(array)
        self.constants[name], self.values[name] = array, Value(array.shape, str(array.dtype))
        return name

    def node(self, operation, *inputs, shape=None, name=None, **attributes):
        name = name or f"{operation}{len(self.nodes)}"
        node = Node(
            operation=operation, inputs=inputs, output=name, attributes=attributes, layer=name
        )
        given = [
            self.constants[i] if i in self.constants else np.ones(*self.values[i]) for i in inputs
        ]
        found = in_numpy.one(node, given, shape or given[0].shape)
        found = found.astype(np.float32) if found.dtype == np.float64 else found
        self.nodes.append(node)
        self.values[name] = Value(tuple(found.shape), str(found.dtype))
        return name

    def conv(
        self,
        x,
        channels,
        size=3,
        stride=1,
        groups=1,
        relu=True,
        padding=None,
        dilation=1,
        name=None,
    ):
        name = name or f"conv{len(self.nodes)}"
        inside = self.values[x].shape[-1] // groups
        spread = np.sqrt(2 / (size * size * inside))
        kernel = self.random.normal(0, spread, (size, size, inside, channels))
        pad = size // 2
        return self.node(
            "conv",
            x,
            self.constant(kernel.astype(np.float32), f"{name}/kernel"),
            self.constant(self.random.normal(0, 0.1, channels).astype(np.float32), f"{name}/bias"),
            strides=(stride, stride),
            padding=padding or ((pad, pad), (pad, pad)),
            dilation=(dilation, dilation),
            groups=groups,
            bounds=(0.0, np.inf) if relu else (-np.inf, np.inf),
            name=name,
        )

    def dense(self, x, features, relu=False, name=None):
        name = name or f"dense{len(self.nodes)}"
        inside = self.values[x].shape[-1]
        kernel = self.random.normal(0, np.sqrt(1 / inside), (inside, features))
        return self.node(
            "dense",
            x,
            self.constant(kernel.astype(np.float32), f"{name}/kernel"),
            self.constant(self.random.normal(0, 0.1, features).astype(np.float32), f"{name}/bias"),
            bounds=(0.0, np.inf) if relu else (-np.inf, np.inf),
            name=name,
        )

    def graph(self, *outputs):
        return Graph(
            inputs=self.inputs,
            outputs=outputs or (self.nodes[-1].output,),
            nodes=tuple(self.nodes),
            values=self.values,
            constants=self.constants,
            structure="tuple" if len(outputs) > 1 else "single",
        )


def lenet(batch=1):
    """Convolutions, max pooling, a flattened image that a dense layer reads."""
    h = Hand(input=(batch, 12, 12, 1))
    x = h.conv("input", 6, 5)
    x = h.node("max_pool", x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    x = h.conv(x, 8, 3, padding=((0, 0), (0, 0)))
    x = h.node("average_pool", x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    x = h.node("reshape", x, shape=(batch, 32))
    x = h.dense(x, 12, relu=True)
    h.dense(x, 10, name="logits")
    return h.graph("logits")


def resnet(batch=1, side=32, width=16, blocks=3):
    """Residual blocks whose shortcuts skip pixels and append channels of zeros, as option A."""
    h = Hand(input=(batch, side, side, 3))
    x = h.conv("input", width)
    for stage in range(3):
        channels = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            inside = h.conv(x, channels, stride=stride)
            inside = h.conv(inside, channels, relu=False)
            if stride > 1:
                _, height, _, had = h.values[x].shape
                x = h.node(
                    "slice",
                    x,
                    begin=(0, 0, 0, 0),
                    end=(batch, height, height, had),
                    strides=(1, 2, 2, 1),
                )
                x = h.node("pad", x, pads=((0, 0),) * 3 + ((0, channels - had),), value=0.0)
            x = h.node("add", inside, x, bounds=(0.0, np.inf))
    x = h.node("mean", x, axes=(1, 2), keepdims=False)
    h.dense(x, 10, name="logits")
    return h.graph("logits")


def integers(graph, *inputs):
    """Returns a graph of integers, with grids from what it computes in numpy.

    Biases are multiples of the products' scales, as they are in the engines.
    """
    grids = {}
    for name, array in in_numpy.values(graph, *inputs).items():
        node = next((node for node in graph.nodes if node.output == name), None)
        if name in graph.constants or array.dtype != np.float64:
            continue
        if node and node.operation in FIXED:
            grids[name] = FIXED[node.operation]
        elif node and node.operation in MOVES and node.inputs[0] in grids:
            grids[name] = grids[node.inputs[0]]
        else:
            low, high = min(array.min(), 0.0), max(array.max(), 0.0)
            scale = float(np.float32((high - low) / 255)) or 1.0
            grids[name] = Grid(scale, round(-128 - low / scale))
    stored, constants = {}, dict(graph.constants)
    for node in graph.nodes:
        if node.operation in ("conv", "dense"):
            kernel = graph.constants[node.inputs[1]]
            scales = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(0) / np.float32(127)
            codes = np.rint(kernel / scales).astype(np.int8)
            stored[node.inputs[1]] = Stored(codes, scales)
            constants[node.inputs[1]] = codes * scales
            if node.inputs[0] in grids:
                scales = np.float32(grids[node.inputs[0]].scale) * scales
                rounded = np.rint(graph.constants[node.inputs[2]] / scales) * scales
                constants[node.inputs[2]] = rounded.astype(np.float32)
    return dataclasses.replace(graph, grids=grids, stored=stored, constants=constants)
