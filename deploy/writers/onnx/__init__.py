"""Graph → ONNX file, for onnxruntime and OpenVINO.

Images stand as [B, C, H, W] inside and as [B, H, W, C] at the ends. A network of integers is
written with QuantizeLinear and DequantizeLinear around its operations, which both engines turn
into integer kernels: activations as uint8 (the codes of the grid plus 128: onnxruntime's kernels
on x86 multiply uint8 by int8), kernels as int8 with a scale for each output, biases as int32.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from deploy.graphs.graph import Graph, Unsupported, live
from deploy.writers import producer
from deploy.writers.onnx.file import Held, Making, add, named, plain
from deploy.writers.onnx.operations import RULES
from deploy.writers.onnx.values import real
from groundwork import atomic

OPSET = 17
IR_VERSION = 8  # of the same year as the opset
LIMIT = 2**31 - 2**20  # bytes; protobuf's messages end at 2 GiB, and nodes need some


def write(graph: Graph, path: str | Path) -> tuple[Path]:
    """Writes a graph as an ONNX file (opset 17) whose bytes are the same each time.

    The file's inputs and outputs have the names, shapes and dtypes of the graph's. Its metadata
    say how the outputs were structured (`structure`, `outputs`), the order of the inputs' axes
    (`layout`), the number of classes (`classes`) and whether it computes with integers (`kind`).

    Args:
      graph: see `Graph`.
      path: of the file.

    Returns:
      The path.

    Raises:
      ValueError: the graph has an operation that ONNX has not, which is named with its layer; the
        file would exceed 2 GB.
      OSError: the file cannot be written.
    """
    graph, path = live(graph), Path(path)
    size = sum(array.nbytes for array in graph.constants.values())
    if size > LIMIT:
        raise ValueError(f"{path}: an ONNX file ends at 2 GB and this network has {size} bytes")
    atomic.write(path, model(graph).SerializeToString(deterministic=True))
    return (path,)


def model(graph: Graph) -> onnx.ModelProto:
    """Returns a graph as ONNX's message; `write` says what is in it."""
    making = Making(graph=graph)
    for name in graph.inputs:
        making.held[name] = Held(plain(len(graph.values[name].shape)), real=named(making, name))
    for node in graph.nodes:
        if node.operation not in RULES:
            raise Unsupported("ONNX", node)
        RULES[node.operation](making, node)
    for name in dict.fromkeys(graph.outputs):
        found = real(making, name, plain(len(graph.values[name].shape)))
        if found != name:
            add(making, "Identity", [found], name)
    return _message(making)


def _message(making: Making) -> onnx.ModelProto:
    graph = making.graph
    made = helper.make_graph(
        making.nodes,
        "network",
        [_described(graph, name) for name in graph.inputs],
        [_described(graph, name) for name in dict.fromkeys(graph.outputs)],
        list(making.constants.values()),
    )
    message = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=producer.NAME,
        producer_version=producer.version(),
    )
    helper.set_model_props(message, _metadata(graph))
    return message


def _described(graph: Graph, name: str) -> onnx.ValueInfoProto:
    value = graph.values[name]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(name, dtype, value.shape)


def _metadata(graph: Graph) -> dict[str, str]:
    images = len(graph.values[graph.inputs[0]].shape) == 4
    classes = [str(graph.values[name].shape[-1]) for name in graph.outputs]
    return {
        "classes": " ".join(classes),
        "kind": "int8" if graph.grids else "float32",
        "layout": "NHWC" if images else "",
        "outputs": json.dumps(graph.outputs),
        "structure": graph.structure,
    }
