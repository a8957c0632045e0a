"""ONNX files in OpenVINO, on the CPU."""

import functools
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deploy.runtimes import batches, processor


def load(path: str | Path, threads: int = 1) -> Callable[..., Any]:
    """Returns an ONNX file as a function of numpy arrays; `deploy.engines.load` says more.

    Floats are computed as float32, also on processors on which OpenVINO would take bfloat16. Where
    integers would saturate (x86 without VNNI), they are computed as floats, too: right, and slower.

    Raises:
      ValueError: OpenVINO cannot read the file.
    """
    compiled, notes = _compiled(path, threads)
    request = compiled.create_infer_request()
    results = json.loads(notes.get("outputs", "null"))
    results = results or [output.get_any_name() for output in compiled.outputs]
    tensors = [request.get_tensor(name) for name in results]
    inputs = [request.get_input_tensor(place) for place in range(len(compiled.inputs))]
    dtypes = [tensor.data.dtype for tensor in inputs]

    def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        for tensor, array in zip(inputs, batches.typed(arrays, dtypes), strict=True):
            tensor.data[...] = array
        try:
            request.infer()
        except RuntimeError as error:
            raise ValueError(f"OpenVINO cannot run {path}: {_line(error)}") from None
        return [tensor.data.copy() for tensor in tensors]

    shapes = [tuple(value.shape) for value in compiled.inputs]
    structure = notes.get("structure", "single")
    return batches.over(call, shapes, structure == "single", structure == "stacked")


def operations(path: str | Path) -> list[tuple[str, str, str]]:
    """Returns what OpenVINO runs for a file: names, operations, `int8` or `float32`.

    These are the operations of its own compiled graph but constants.

    Raises:
      ValueError: OpenVINO cannot read the file.
    """
    compiled, _ = _compiled(path, threads=1)
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        said = {key: node.get_rt_info()[key].astype(str) for key in _SAID}
        if said["layerType"] not in _NO_WORK:
            given, made = (_DTYPES.get(said[key], said[key]) for key in _SAID[1:])
            name = node.get_friendly_name()
            found.append((name, said["layerType"], batches.precision(given, made)))
    return found


_SAID = ("layerType", "runtimePrecision", "outputPrecisions")
_NO_WORK = ("Const", "Input", "Output")
_DTYPES = {"f32": "float32", "u8": "uint8", "i8": "int8", "i32": "int32", "bf16": "bfloat16"}


def _compiled(path: str | Path, threads: int) -> tuple[Any, dict[str, str]]:
    """Returns a compiled model and the metadata of its file."""
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    openvino = _openvino()
    try:
        # `read_model` would try the readers of other forms, which write to stderr.
        reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
        model = reader.convert(reader.load(str(path)))
        notes = {key: model.get_rt_info(place).astype(str) for key, place in _places(model)}
        if notes.get("kind") == "int8":
            # On one thread, OpenVINO 2026.4.1 makes one kernel of dense layers and what is
            # between them, whose outputs are wrong for factors of channels and without biases.
            settings["SNIPPETS_MODE"] = "DISABLE"
            if processor.saturates():  # the file's integers are then computed as floats
                settings["LP_TRANSFORMS_MODE"] = False
        compiled = _compile(openvino, model, settings)
    except Exception as error:  # its classes have no common one but this
        raise ValueError(f"OpenVINO cannot read {path}: {_line(error)}") from None
    if not compiled.inputs or any(value.partial_shape.is_dynamic for value in compiled.inputs):
        raise ValueError(f"OpenVINO cannot read {path}: it has no inputs, or not of fixed shapes")
    return compiled, notes


def _places(model: Any) -> list[tuple[str, list[str]]]:
    """Returns the metadata of a file and where a model has them."""
    places = [(key, ["framework", key]) for key in ("structure", "outputs", "kind")]
    return [(key, place) for key, place in places if model.has_rt_info(place)]


def _compile(openvino: ModuleType, model: Any, settings: dict[str, Any]) -> Any:
    """Returns a compiled model, without generated code where OpenVINO cannot generate it.

    OpenVINO 2026.4 refuses some chains of operations with one channel (`Layout rank can't be larger
    than tensor rank`) that its other kernels compute.
    """
    core = _core(openvino)
    try:
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        if "snippets" not in str(error):
            raise
        return core.compile_model(model, "CPU", {**settings, "SNIPPETS_MODE": "DISABLE"})


@functools.cache
def _core(openvino: ModuleType) -> Any:
    """Returns the core of this process, which lives as long as the process does.

    OpenVINO 2026.4 gives the thread another stack for signals, where the processor has AMX, and
    frees it with its last core: the next signal would end the process.
    """
    return openvino.Core()


def _openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry, which would send a message for each import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
