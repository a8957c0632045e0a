"""ncnn's two files: `.param`, a layer per line, and `.bin`, the layers' numbers.

Read `write` first, then `RULES`. ncnn knows no batch: the files are
those of one example, and whoever runs them takes one example after the other. Its images are
[C, H, W].

Source: ncnn's documents of its operators (github.com/Tencent/ncnn, docs/developer-guide).
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from deploy import grids
from deploy.graphs.graph import Graph, Unsupported, live
from deploy.writers.ncnn import blobs, entries, products, shapes
from deploy.writers.ncnn.blobs import Layer, Rule, Setting
from groundwork import atomic

MAGIC = "7767517"
LONGEST = 200  # of names, of which ncnn reads 255 bytes, endings included
SEAL = "sha256:"
"""Begins the name of a layer without blobs, whose rest is the digest of all else."""


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": products.conv,
        "dense": products.dense,
        "matmul": products.matmul,
        "gather": products.gather,
        **dict.fromkeys(entries.BINARY, entries.binary),
        "clip": entries.clip,
        "where": entries.where,
        "softmax": entries.softmax,
        "sigmoid": entries.entrywise("Sigmoid"),
        "tanh": entries.entrywise("TanH"),
        "erf": entries.entrywise("Erf"),
        **{name: entries.entrywise("UnaryOp", kind) for name, kind in entries.UNARY.items()},
        "max_pool": shapes.window,
        "average_pool": shapes.window,
        **dict.fromkeys(shapes.KINDS, shapes.reduction),
        "cast": shapes.cast,
        "reshape": shapes.reshape,
        "broadcast": shapes.broadcast,
        "transpose": shapes.transpose,
        "concat": shapes.concat,
        "pad": shapes.pad,
        "slice": shapes.crop,
        "channel_shuffle": shapes.channel_shuffle,
    }
)
"""Operation → the layers that compute it. ncnn has no comparisons."""


def write(graph: Graph, path: str | Path) -> list[Path]:
    """Writes a graph for ncnn.

    In a network of integers, products take 8-bit integers in and their kernels' codes as they are;
    what lies between two products is float. ncnn's grids have their zero in the middle, so a value
    whose grid has it elsewhere keeps its range and loses points: one that is never negative, as
    after ReLU, has 128 of its 256. Kernels of grouped convolutions that are not depthwise have one
    scale per group in ncnn, and stay float.

    Args:
      graph: see `Graph`; the batch of its example does not matter.
      path: of the `.param` file; that of the numbers stands beside it.

    Returns:
      Both paths.

    Raises:
      Unsupported: ncnn has no such operation, or one that mixes the examples of a batch.
      OSError: the files cannot be written.
    """
    graph, path = live(graph), Path(path)
    layers = split(_layers(graph), _results(graph))
    lines = [_line(layer, outputs) for layer, outputs in layers]
    blobs = sum(len(outputs) for _, outputs in layers)
    numbers = b"".join(layer.numbers for layer, _ in layers)
    head = [MAGIC, f"{len(lines) + 1} {blobs}", *lines]
    text = "\n".join([*head, f"Noop {seal(head, numbers)} 0 0", ""])
    binary = path.with_suffix(".bin")
    grids.say_lost(
        "ncnn", _lost(graph), "one scale per group is all that ncnn has: they are floats"
    )
    atomic.write(binary, numbers)
    atomic.write(path, text)
    return [path, binary]


def seal(head: Iterable[str], numbers: bytes) -> str:
    """Returns the name of the last layer: a digest of the lines before it and of the numbers."""
    return SEAL + hashlib.sha256("\n".join([*head, ""]).encode() + numbers).hexdigest()


def split(layers: list[Layer], results: list[tuple[str, str]]) -> list[tuple[Layer, list[str]]]:
    """Returns layers with their outputs such that each blob has one reader, as ncnn wants it.

    Args:
      layers: in order; any number of them may read a blob.
      results: value → the name of the blob that gives it out; a value may be there twice.
    """
    waiting: dict[str, list[str]] = {layer.output: [] for layer in layers}
    for layer in layers:
        for name in layer.inputs:
            waiting[name].append("")
    for name, result in results:
        waiting[name].append(result)
    found = []
    given_out = {result for _, result in results}
    for layer in layers:
        # Readers take the copies of a blob in the order in which they come.
        layer = layer._replace(inputs=tuple(waiting[name].pop(0) for name in layer.inputs))
        name, copies = layer.output, waiting[layer.output]
        whole = f"{name}:whole" if name in given_out else name
        if len(copies) == 1 and not (layer.kind == "Input" and copies[0]):
            waiting[name] = [copies[0] or whole]
            found.append((layer, list(waiting[name])))
            continue
        found.append((layer, [whole]))
        if copies:
            waiting[name] = [copy or f"{name}:{index}" for index, copy in enumerate(copies)]
            copy = Layer("Split", (whole,), f"{name}:split", {})
            found.append((copy, list(waiting[name])))
    return found


def _layers(graph: Graph) -> list[Layer]:
    """Returns the layers of a graph in order; blobs may have several readers."""
    for name in graph.values:
        if len(name) > LONGEST or len(name.split()) != 1:
            raise ValueError(f"ncnn's names have no spaces and {LONGEST} letters at most: {name!r}")
    plan, found = blobs.plan(graph), []
    for name in graph.inputs:
        shape, dtype = graph.values[name]
        if not 2 <= len(shape) <= 5:
            raise ValueError(f"ncnn takes inputs of 2 to 5 axes, not {list(shape)}")
        sizes = blobs.sizes(blobs.blob(shape))
        found.append(Layer("Input", (), name, sizes, name=f"{name}:{dtype}"))
    for node in graph.nodes:
        if node.operation not in RULES:
            raise Unsupported("ncnn", node)
        blobs.check(graph, node)
        found += RULES[node.operation](plan, node)
    for name in graph.outputs:
        shape = graph.values[name].shape
        if name in graph.constants or not 2 <= len(shape) <= 5:
            raise ValueError(f"ncnn gives arrays [B, …] of 2 to 5 axes, not {list(shape)}")
    return found


def _lost(graph: Graph) -> list[str]:
    """Returns the kernels whose integers are not in the file."""
    if not graph.grids:
        return []
    floats = (node for node in grids.layers(graph) if not blobs.is_integral(graph, node))
    return [node.inputs[1] for node in floats]


def _results(graph: Graph) -> list[tuple[str, str]]:
    if graph.structure == "single":
        return [(graph.outputs[0], "logits")]
    return [(name, f"logits_{index}") for index, name in enumerate(graph.outputs)]


def _line(layer: Layer, outputs: list[str]) -> str:
    name = layer.name or layer.output
    settings = (_setting(key, value) for key, value in layer.settings.items())
    counts = f"{len(layer.inputs)} {len(outputs)}"
    return " ".join([layer.kind, name, counts, *layer.inputs, *outputs, *settings])


def _setting(key: int, value: Setting) -> str:
    if isinstance(value, tuple):
        return f"-{23300 + key}={','.join([str(len(value)), *map(_number, value)])}"
    return f"{key}={_number(value)}"


def _number(value: int | float) -> str:
    """Returns a number as ncnn reads it: in at most 15 characters, floats with a point."""
    return f"{value:.8e}" if isinstance(value, float) else str(int(value))
