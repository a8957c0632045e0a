"""A graph of floats as one of 8-bit integers: where its values lie, and its kernels' codes."""

# B batch of the graph, N calibration examples, O outputs of a layer

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.quantize import activations
from compress.quantize import grids as uniform_grids
from deploy import biases
from deploy.graphs.evaluate import evaluate
from deploy.graphs.graph import Graph, Grid, Node, Stored, readers
from groundwork.numerics import checks

RANGES = activations.RANGES
ENTRIES = 2**18  # of one value, drawn at random, that `percentile` and `mse` look at
MOST = 2**31 - 1  # of a bias's codes
_EXTREMES = ("minmax", "moving")  # they need the least and the greatest of each batch alone

FIXED: Mapping[str, Grid] = MappingProxyType(
    {"softmax": Grid(1 / 256, -128), "sigmoid": Grid(1 / 256, -128), "tanh": Grid(1 / 128, 0)}
)
"""Operation → the grid that TFLite demands of its output, which spans all that it can be."""

MOVES = (
    *("reshape", "broadcast", "transpose", "slice", "channel_shuffle", "pad", "gather"),
    *("max_pool", "average_pool", "reduce_max"),
)
"""Operations whose outputs lie on the grid of their input, so that integers pass as they are.

A `pad` with another value than 0 is none of them. `gather` has the grid of its table. TFLite
demands this of all of them, `average_pool` included.
"""


MASKED = -1e6
"""Below it lies what a mask puts where attention must not look; softmax makes 0 of it."""
BELOW = 8.0
"""How far below all others it lies on a grid: e⁻⁸ is less than half a step of a softmax."""


class CodesLost(UserWarning):
    """Kernels that have integers are not stored as these in an engine's file."""


def quantized(
    graph: Graph, inputs: Any, range: str = "minmax", correct_biases: bool = False
) -> Graph:
    """Returns a graph of 8-bit integers: all float32 values have a grid, all kernels have codes.

    Kernels that have codes keep them; others get −127 … 127 with one scale for each output. Values
    get 256 steps over the range that they have for these inputs, zero included exactly. What starts
    at 0 (after ReLU) has zero −128, so that the grid's own end is the clipping. `FIXED` and `MOVES`
    are the exceptions; what softmax alone reads ends `BELOW` its least entry that is not masked.
    Constants beside kernels stay as they are.

    Args:
      graph: without grids.
      inputs: an array [N, …], or a tree of them, as the network's own inputs are. Where N is no
        multiple of B, the first ones fill the last batch up.
      range: what the grids span, one of `RANGES`, as for `compress.quantize.activations.calibrate`;
        `percentile` and `mse` look at `ENTRIES` random entries of a value.
      correct_biases: whether biases make up for the mean errors that integers cause, for the first
        of these inputs: see `biases.corrected`.

    Returns:
      The graph, whose `constants` hold codes × scales, of biases too (`bias_codes`; a bias that
      layers share becomes one for each of their scales, and what exceeds 32 bits stays as it is).
      The scale of an output whose codes are all 0 is chosen for its bias, and a new kernel's scale
      is large enough for it.

    Raises:
      ValueError: the graph has grids; the inputs have other shapes, or none is there; the range is
        unknown; a value is not finite for these inputs.

    Source: Jacob et al., arXiv:1712.05877, Sections 2.1 and 3; TensorFlow Lite's 8-bit quantization
    specification.
    """
    if graph.grids:
        raise ValueError("the graph is one of integers already")
    checks.name("range", range, RANGES)
    batches = list(_batches(graph, inputs))
    exact, given = graph, graph.stored
    graph = _with_codes(graph)
    seen = exact if correct_biases else graph  # its values are what corrected biases aim at
    graph = dataclasses.replace(graph, grids=_grids(graph, _samples(seen, batches, range), range))
    if correct_biases:
        graph = biases.corrected(graph, exact, batches)
    return _with_whole_biases(_with_room_for_biases(graph, given))


def of_constant(array: np.ndarray) -> Grid:
    """Returns the grid of a float constant that is no kernel, over its own range and zero."""
    return _between(np.asarray(array, np.float32), "minmax")


def bias_codes(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bias of a `conv` or `dense` as integers [O] int32, and their scales [O] float32.

    A scale is that of the input times that of the kernel's output.

    Raises:
      ValueError: an integer needs more than 32 bits; the error names the layer.
    """
    codes, scales = _in_units(graph, node)
    if np.any(np.abs(codes) > MOST):
        raise ValueError(
            f"the bias of {node.layer or node.output!r} needs more than 32 bits beside the stored "
            f"integers of {node.inputs[1]!r}: store this kernel as floats"
        )
    return codes.astype(np.int32), scales


def _in_units(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bias of a layer in units of its products, float64, and these units."""
    value, kernel, bias = node.inputs
    scales = np.float32(graph.grids[value].scale) * graph.stored[kernel].scales
    return np.rint(np.asarray(graph.constants[bias], np.float64) / scales), scales


def say_lost(engine: str, kernels: list[str], why: str) -> None:
    """Warns that an engine's file does not hold these kernels' integers.

    Args:
      engine: its name.
      kernels: their names; with none there is no warning.
      why: what the file holds instead, and why.
    """
    if kernels:
        names = ", ".join(kernels)
        line = f"{engine}: the stored integers of {names} are not in the file: {why}"
        warnings.warn(line, CodesLost, stacklevel=3)


def layers(graph: Graph) -> list[Node]:
    """Returns the nodes that have a kernel."""
    return [node for node in graph.nodes if node.operation in ("conv", "dense")]


def _batches(graph: Graph, inputs: Any) -> Iterator[tuple[np.ndarray, ...]]:
    arrays = [np.asarray(array) for array in jax.tree.leaves(inputs)]
    wanted = [graph.values[name].shape for name in graph.inputs]
    shapes = [array.shape for array in arrays]
    fits = len(shapes) == len(wanted) and all(
        shape[1:] == want[1:] and len(shape) == len(want)
        for shape, want in zip(shapes, wanted, strict=True)
    )
    if not fits or not all(shape[0] == shapes[0][0] > 0 for shape in shapes):
        lines = ", ".join(str(list(want)).replace(f"[{want[0]}", "[N", 1) for want in wanted)
        given = ", ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"calibration inputs must be of shapes {lines}, N from 1, not {given}")
    batch, count = wanted[0][0], shapes[0][0]
    for start in range(0, count, batch):
        places = np.arange(start, start + batch) % count
        yield tuple(array[places] for array in arrays)


def _with_codes(graph: Graph) -> Graph:
    """Returns the graph with codes of every kernel, and their floats as the kernels."""
    stored, constants = dict(graph.stored), dict(graph.constants)
    for name in dict.fromkeys(node.inputs[1] for node in layers(graph)):
        if name not in stored:
            kernel = jnp.asarray(constants[name])
            made = uniform_grids.uniform(kernel, 8, axis=kernel.ndim - 1)
            stored[name] = Stored(np.asarray(made.values), np.asarray(made.scale).ravel())
        constants[name] = _floats(stored[name])
    return dataclasses.replace(graph, stored=stored, constants=constants)


def _floats(stored: Stored) -> np.ndarray:
    return stored.codes.astype(np.float32) * np.asarray(stored.scales, np.float32)


def _samples(
    graph: Graph, batches: list[tuple[np.ndarray, ...]], range: str
) -> dict[str, list[np.ndarray]]:
    """Returns what a range needs of each float value: batch by batch an array."""
    names = [*graph.inputs, *(node.output for node in graph.nodes)]
    names = [name for name in names if graph.values[name].dtype == "float32"]
    each = max(1, ENTRIES // len(batches))
    sizes = {int(np.prod(graph.values[name].shape)) for name in names}
    rng = np.random.default_rng(0)
    places = {size: rng.integers(size, size=each) for size in sorted(sizes) if size > each}
    if range in _EXTREMES:
        places = {}

    masked = _before_softmax(graph)

    def look(places: dict[int, Any], *batch: Any) -> dict[str, jax.Array]:
        values, found = evaluate(graph, *batch), {}
        for name in names:
            value = values[name].ravel()
            if name in masked:
                is_seen = value > MASKED
                least = jnp.min(value, initial=jnp.inf, where=is_seen) - BELOW
                value = jnp.where(is_seen | jnp.isinf(least), value, least)
            if range in _EXTREMES:
                found[name] = jnp.stack([jnp.min(value), jnp.max(value)])
            else:
                found[name] = value[places[value.size]] if value.size in places else value
        return found

    program = jax.jit(look)
    seen = [{name: np.asarray(v) for name, v in program(places, *b).items()} for b in batches]
    return {name: [one[name] for one in seen] for name in names}


def _before_softmax(graph: Graph) -> set[str]:
    """Returns the values that nothing but softmax reads."""
    reading = readers(graph)
    return {
        node.output
        for node in graph.nodes
        if node.output not in graph.outputs
        and reading[node.output]
        and all(one.operation == "softmax" for one in reading[node.output])
    }


def _grids(graph: Graph, samples: Mapping[str, list[np.ndarray]], range: str) -> dict[str, Grid]:
    found: dict[str, Grid] = {}
    of = {node.output: node for node in graph.nodes}
    for name, batches in samples.items():
        node = of.get(name)
        for batch in batches:
            if not np.all(np.isfinite(batch)):
                layer = f" of {node.layer!r}" if node and node.layer else ""
                raise ValueError(f"value {name!r}{layer} is not finite for the calibration inputs")
        if node and node.operation in FIXED:
            found[name] = FIXED[node.operation]
        elif node and node.operation in MOVES and not node.attributes.get("value"):
            first = node.inputs[0]
            found[name] = found[first] if first in found else of_constant(graph.constants[first])
        else:
            found[name] = _between(batches, range)
    return found


def _between(batches: Any, range: str) -> Grid:
    grid = activations.calibrate(batches, 8, range=range)
    return Grid(float(grid.scale), int(grid.zero_point) - 128)


def _with_room_for_biases(graph: Graph, given: Mapping[str, Stored]) -> Graph:
    """Returns the graph with scales beside which biases are integers of at most 31 bits."""
    stored, constants = dict(graph.stored), dict(graph.constants)
    floats = {name: _floats(codes) for name, codes in stored.items()}
    for node in layers(graph):
        value, kernel, bias = node.inputs
        codes, scales = stored[kernel]
        axes = tuple(range(codes.ndim - 1))
        empty = ~np.any(codes, axis=axes)
        finest = np.min(scales[~empty], initial=np.inf) if not empty.all() else 1.0
        enough = np.abs(constants[bias]) / np.float32(graph.grids[value].scale) / 2**30
        scales = np.where(empty, np.maximum(finest, enough), scales)
        if kernel not in given:
            scales = np.maximum(scales, enough)
            codes = np.rint(floats[kernel] / scales).astype(np.int8)
        stored[kernel] = Stored(codes, scales.astype(np.float32))
        constants[kernel] = _floats(stored[kernel])
    return dataclasses.replace(graph, stored=stored, constants=constants)


def _with_whole_biases(graph: Graph) -> Graph:
    """Returns the graph with biases that are multiples of their products' scales, as engines add.

    ncnn's are floats, of the same values.
    """
    values, constants, nodes = dict(graph.values), dict(graph.constants), []
    reading = readers(graph)
    for node in graph.nodes:
        if node.operation in ("conv", "dense"):
            *others, bias = node.inputs
            codes, scales = _in_units(graph, node)
            whole = np.where(np.abs(codes) > MOST, graph.constants[bias], codes * scales)
            if len(reading[bias]) > 1:
                bias = _free(f"{node.output}/bias", values)
                values[bias] = graph.values[node.inputs[2]]
                node = dataclasses.replace(node, inputs=(*others, bias))
            constants[bias] = whole.astype(np.float32)
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes), values=values, constants=constants)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name
