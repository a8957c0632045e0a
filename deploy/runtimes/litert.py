"""LiteRT (TensorFlow Lite): files as functions, and what is in them. Its XNNPACK kernels run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from deploy.runtimes import batches


def load(path: str | Path, threads: int = 1) -> Callable[..., Any]:
    """Returns a `.tflite` file as a function of numpy arrays; see `deploy.engines.load`.

    Raises:
      ValueError: LiteRT cannot read or prepare the file.
    """
    path = Path(path)
    interpreter = _interpreter(path, threads)
    structure = _noted(_root(path), "structure", "single")
    given, found = interpreter.get_input_details(), interpreter.get_output_details()

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        typed = batches.typed(arrays, [detail["dtype"] for detail in given])
        for detail, array in zip(given, typed, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in found]

    shapes = [tuple(int(size) for size in detail["shape"]) for detail in given]
    return batches.over(call, shapes, structure == "single", structure == "stacked")


def operations(path: str | Path) -> list[tuple[str, str, str]]:
    """Returns the operators of a file in order: name of the result, operator, precision.

    The precision is that in which it computes, see `batches.precision`.
    """
    path = Path(path)
    _interpreter(path, 1)  # it checks the offsets in the file
    model = schema.ModelT.InitFromObj(_root(path))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[:1] != "_"}
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items()}
    graph, rows = model.subgraphs[0], []
    for operator in graph.operators:
        output = graph.tensors[operator.outputs[0]]
        first = graph.tensors[operator.inputs[0]]
        kind = batches.precision(dtypes[first.type], dtypes[output.type])
        code = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        rows.append((output.name.decode(), code, kind))
    return rows


def _interpreter(path: Path, threads: int) -> Interpreter:
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(f"LiteRT cannot run {path}: it is no .tflite file")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"LiteRT cannot run {path}: {_line(error)}") from error
    return interpreter


def _root(path: Path) -> Any:
    return schema.Model.GetRootAs(path.read_bytes())


def _noted(model: Any, name: str, default: Any) -> Any:
    """Returns what the writer noted in the file."""
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == name.encode():
            return json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    return default


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
