"""ONNX files in onnxruntime."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from deploy.runtimes import batches, processor

ERRORS_ALONE = 3  # severity of what it logs


def load(path: str | Path, threads: int = 1) -> Callable[..., Any]:
    """Returns an ONNX file as a function of numpy arrays; `deploy.engines.load` says more.

    Raises:
      ValueError: onnxruntime cannot read the file.
    """
    session = _session(path, _options(threads))
    notes = session.get_modelmeta().custom_metadata_map
    names = [value.name for value in session.get_inputs()]
    results = json.loads(notes.get("outputs", "null"))
    results = results or [value.name for value in session.get_outputs()]
    dtypes = _dtypes(session)

    def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        given = batches.typed(arrays, dtypes)
        try:
            return session.run(results, dict(zip(names, given, strict=True)))
        except Exception as error:  # its classes have no common one but this
            raise ValueError(f"onnxruntime cannot run {path}: {_line(error)}") from None

    shapes = [tuple(value.shape) for value in session.get_inputs()]
    structure = notes.get("structure", "single")
    return batches.over(call, shapes, structure == "single", structure == "stacked")


def operations(path: str | Path) -> list[tuple[str, str, str]]:
    """Returns what onnxruntime runs for a file: names, operations, `int8` or `float32`.

    These are the operations of its own optimised graph, as it reports them after one run on zeros.

    Raises:
      ValueError: onnxruntime cannot read or run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = _options(threads=1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(path, options)
        inputs = zip(session.get_inputs(), _dtypes(session), strict=True)
        zeros = {value.name: np.zeros(value.shape, dtype) for value, dtype in inputs}
        try:
            session.run(None, zeros)
        except Exception as error:  # its classes have no common one but this
            raise ValueError(f"onnxruntime cannot run {path}: {_line(error)}") from None
        events = json.loads(Path(session.end_profiling()).read_text())
    found = []
    for event in events:
        name, ending, _ = event["name"].rpartition("_kernel_time")
        if event["cat"] == "Node" and ending:
            said = event["args"]
            given, made = (_first(said[f"{end}_type_shape"]) for end in ("input", "output"))
            if said["op_name"] == "QLinearConcat":  # its first input is a scale
                given = made
            found.append((name, said["op_name"], batches.precision(given, made)))
    return found


def _first(values: list[dict[str, Any]]) -> str:
    return next(iter(values[0])).replace("float", "float32")


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ALONE
    # Threads wait for work in a loop while an inference runs, and sleep between two of them.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if processor.saturates():  # kernels of uint8 are right, and take twice the time
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _session(path: str | Path, options: Any) -> Any:
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its classes have no common one but this
        raise ValueError(f"onnxruntime cannot read {path}: {_line(error)}") from None
    shapes = [value.shape for value in session.get_inputs()]
    if not shapes or not all(isinstance(size, int) for shape in shapes for size in shape):
        raise ValueError(f"onnxruntime cannot read {path}: its inputs have no fixed shapes")
    return session


def _dtypes(session: Any) -> list[np.dtype]:
    names = [value.type.removeprefix("tensor(").removesuffix(")") for value in session.get_inputs()]
    kinds = {"float": "float32", "double": "float64"}
    return [np.dtype(kinds.get(name, name)) for name in names]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
