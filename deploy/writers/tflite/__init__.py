"""Files of LiteRT (TensorFlow Lite), by flatbuffers and LiteRT's own schema alone.

A graph without grids becomes a file of float32. With grids it becomes one of 8-bit integers:
stored codes are written as they are, biases are int32, every value lies on its grid, and values
are moved to another grid where an operator wants that (each branch of a concatenation by itself).
Inputs and outputs stay float32 [N, …]. Operations without an int8 kernel are computed as floats
between two operators that convert; `deploy.runtimes.litert.operations` says which these are.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from deploy import grids
from deploy.graphs.graph import Graph, Node, Unsupported, live
from deploy.writers.tflite import entries, movements, windows
from deploy.writers.tflite.draft import Draft
from deploy.writers.tflite.erf import erf
from deploy.writers.tflite.file import Tensor
from groundwork import atomic

RULES: Mapping[str, entries.Rule] = MappingProxyType(
    {
        "conv": windows.conv,
        "dense": windows.dense,
        "matmul": entries.matmul,
        "add": entries.rescaling("ADD", "AddOptions"),
        "sub": entries.rescaling("SUB", "SubOptions"),
        "mul": entries.rescaling("MUL", "MulOptions"),
        "div": entries.of_floats("DIV", "DivOptions"),
        "max": entries.choosing("MAXIMUM", "MaximumMinimumOptions"),
        "min": entries.choosing("MINIMUM", "MaximumMinimumOptions"),
        "pow": entries.of_floats("POW", "PowOptions"),
        "clip": entries.clip,
        "sigmoid": entries.unary("LOGISTIC", None, integers=True),
        "tanh": entries.unary("TANH", None, integers=True),
        "exp": entries.unary("EXP", "ExpOptions", integers=True),
        "log": entries.unary("LOG", None),
        "sqrt": entries.unary("SQRT", None),
        "rsqrt": entries.unary("RSQRT", None),
        "erf": erf,
        "neg": entries.unary("NEG", "NegOptions"),
        "abs": entries.unary("ABS", "AbsOptions"),
        "sign": entries.sign,
        "cast": entries.cast,
        "where": entries.where,
        "equal": entries.of_floats("EQUAL", "EqualOptions"),
        "less": entries.of_floats("LESS", "LessOptions"),
        "greater": entries.of_floats("GREATER", "GreaterOptions"),
        "max_pool": windows.max_pool,
        "average_pool": windows.average_pool,
        "mean": entries.reduction("MEAN"),
        "sum": entries.reduction("SUM", integers=False),
        "reduce_max": entries.reduction("REDUCE_MAX", same=True),
        "softmax": entries.softmax,
        "reshape": movements.reshape,
        "broadcast": movements.broadcast,
        "transpose": movements.transpose,
        "concat": movements.concat,
        "pad": movements.pad,
        "slice": movements.part,
        "channel_shuffle": movements.channel_shuffle,
        "gather": movements.gather,
    }
)
"""Operation → what adds its operators and returns the tensor that holds its result."""

AXES: Mapping[str, int] = MappingProxyType({"pad": 5, "matmul": 5})
MOST_AXES = 6
"""Over how many axes LiteRT's kernels go."""


def write(graph: Graph, path: str | Path) -> tuple[Path]:
    """Writes the file of a graph; the same graph gives the same bytes.

    Args:
      graph: see `Graph`; with grids for a network of 8-bit integers.
      path: of the file.

    Returns:
      The path.

    Raises:
      ValueError: an operation has no rule (`Unsupported`), a dtype no tensors, or the file would
        have more than 2 GB.
      OSError: the file cannot be written.
    """
    path = Path(path)
    atomic.write(path, packed(graph))
    return (path,)


def packed(graph: Graph) -> bytes:
    """Returns the bytes of the file."""
    graph = live(graph)
    draft = Draft(graph)
    inputs = {name: _argument(draft, name) for name in graph.inputs}
    for node in graph.nodes:
        draft.tensors[node.output, draft.grid(node.output)] = _result(draft, node)
    outputs = {name: draft.on(name, None) for name in graph.outputs}
    why = "some are rounded to larger scales, so that biases fit 32 bits"
    grids.say_lost("litert", draft.rounded, why)
    metadata = {"structure": graph.structure, "outputs": list(graph.outputs)}
    return draft.file.packed(inputs, outputs, metadata)


def _argument(draft: Draft, name: str) -> Tensor:
    """Adds an input: float32 that is moved to its grid at once, or indices as they are."""
    value, grid = draft.graph.values[name], draft.grid(name)
    tensor = draft.file.tensor(name, value.shape, value.dtype)
    draft.tensors[name, grid] = draft.moved(tensor, grid, f"{name}/codes") if grid else tensor
    return tensor


def _result(draft: Draft, node: Node) -> Tensor:
    """Adds a node and returns its result on the grid that the graph says."""
    if node.operation not in RULES:
        raise Unsupported("litert", node)
    axes = max(len(draft.graph.values[name].shape) for name in (*node.inputs, node.output))
    if axes > AXES.get(node.operation, MOST_AXES):
        raise Unsupported("litert", node, f"over {axes} axes")
    return draft.moved(RULES[node.operation](draft, node), draft.grid(node.output), node.output)
