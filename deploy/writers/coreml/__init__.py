"""Core ML's package: a program of its operations. Read `write`, then `RULES`.

Images [B, H, W, C] are [B, C, H, W] inside: a program transposes its inputs once. What has another
number of axes keeps their order.

Source: the operations as coremltools documents them (`converters.mil.mil.ops.defs`), those of
iOS 16 and macOS 13.
"""

# B batch, H W image, C channels

import contextlib
import io
import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

logging.getLogger("coremltools").setLevel(logging.ERROR)  # it tells what it cannot run here

import coremltools as ct
from coremltools.converters.mil import mil
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

from deploy.graphs.graph import Graph, Unsupported
from deploy.writers.coreml import entries, products, shapes
from deploy.writers.coreml.values import TARGET, Rule, first, last, word

NUMBERS = {"float32": types.fp32, "int32": types.int32}

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv": products.conv,
        "dense": products.dense,
        "matmul": products.matmul,
        "gather": products.gather,
        "add": entries.of_two(mb.add),
        "sub": entries.of_two(mb.sub),
        "mul": entries.of_two(mb.mul),
        "div": entries.of_two(mb.real_div),
        "max": entries.of_two(mb.maximum),
        "min": entries.of_two(mb.minimum),
        "pow": entries.of_two(mb.pow),
        "equal": entries.of_two(mb.equal),
        "less": entries.of_two(mb.less),
        "greater": entries.of_two(mb.greater),
        "where": entries.where,
        "clip": entries.clip,
        "sigmoid": entries.of_one(mb.sigmoid),
        "tanh": entries.of_one(mb.tanh),
        "exp": entries.of_one(mb.exp),
        "log": entries.of_one(mb.log, epsilon=entries.TINY),
        "sqrt": entries.of_one(mb.sqrt),
        "rsqrt": entries.of_one(mb.rsqrt, epsilon=entries.TINY),
        "erf": entries.of_one(mb.erf),
        "neg": entries.negative,
        "abs": entries.of_one(mb.abs),
        "sign": entries.of_one(mb.sign),
        "cast": entries.cast,
        "softmax": shapes.softmax,
        "max_pool": shapes.window,
        "average_pool": shapes.window,
        "mean": shapes.reduction(mb.reduce_mean),
        "sum": shapes.reduction(mb.reduce_sum),
        "reduce_max": shapes.reduction(mb.reduce_max),
        "reshape": shapes.reshape,
        "broadcast": shapes.broadcast,
        "transpose": shapes.transpose,
        "concat": shapes.concat,
        "pad": shapes.pad,
        "slice": shapes.crop,
        "channel_shuffle": shapes.channel_shuffle,
    }
)
"""Operation → the program's operations that compute it."""


def write(graph: Graph, path: str | Path) -> list[Path]:
    """Writes a graph as a program of float32.

    Core ML of iOS 16 has 8-bit kernels and no 8-bit values: of a network of integers the package
    holds the kernels' codes and scales as they are, and the values' grids are left out.

    Args:
      graph: see `Graph`; the program takes its batch and no other.
      path: of the package, a folder; one that is there is replaced.

    Returns:
      The path alone.

    Raises:
      Unsupported: Core ML has no such operation.
      OSError: the package cannot be written.
    """
    path = Path(path)
    with contextlib.redirect_stderr(io.StringIO()):  # bars of progress
        model = ct.convert(
            _program(graph),
            convert_to="mlprogram",
            minimum_deployment_target=TARGET,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    beside = path.with_name(f"part_{path.name}")
    shutil.rmtree(beside, ignore_errors=True)
    model.save(str(beside))
    _name_items(beside / "Manifest.json")
    if path.exists():
        shutil.rmtree(path)
    beside.rename(path)
    return [path]


def _program(graph: Graph) -> Any:
    inputs = {}
    for name in graph.inputs:
        shape, dtype = graph.values[name]
        if dtype not in NUMBERS:
            raise ValueError(f"Core ML takes float32 or int32, not {name!r} of {dtype}")
        inputs[word(name)] = mil.Placeholder(list(shape), dtype=NUMBERS[dtype])
    with mil.Function(inputs, opset_version=TARGET) as function:
        values: dict[str, Any] = {
            name: first(function.inputs[word(name)], f"{word(name)}_channels_first")
            for name in graph.inputs
        }
        for node in graph.nodes:
            if node.operation not in RULES:
                raise Unsupported("Core ML", node)
            given = [values.get(name, name) for name in node.inputs]
            values[node.output] = RULES[node.operation](graph, node, *given)
        function.set_outputs([_result(graph, values, k) for k in range(len(graph.outputs))])
    program = mil.Program()
    program.add_function("main", function)
    return program


def _result(graph: Graph, values: Mapping[str, Any], index: int) -> Any:
    value = values[graph.outputs[index]]
    name = "logits" if graph.structure == "single" else f"logits_{index}"
    return last(value, name) if value.rank == 4 else mb.identity(x=value, name=name)


def _name_items(manifest: Path) -> None:
    """Gives a package's items names that depend on their places alone, and not on chance."""
    found = json.loads(manifest.read_text())
    names = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])).upper()
        for old, item in found["itemInfoEntries"].items()
    }
    found["rootModelIdentifier"] = names[found["rootModelIdentifier"]]
    found["itemInfoEntries"] = {names[old]: i for old, i in found["itemInfoEntries"].items()}
    manifest.write_text(json.dumps(found, indent=4, sort_keys=True) + "\n")
