"""The engines, in one literal table, and `load`: a file as a function of numpy arrays."""

import importlib
import importlib.util
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

ENGINES = ("onnxruntime", "litert", "ncnn", "openvino", "coreml")
MOST_THREADS = 1024  # engines start as many as they are told, or die


class Engine(NamedTuple):
    """Where an engine's parts are.

    Attributes:
      package: the name under which Python imports it.
      install: what pip installs.
      writer: the module whose `write(graph, path)` makes its file; it returns the files' paths.
      runtime: the module whose `load(path, threads)` runs it.
      suffix: of its file; of ncnn's second file `.bin`.
    """

    package: str
    install: str
    writer: str
    runtime: str
    suffix: str

    @property
    def is_folder(self) -> bool:
        """Whether its file is a folder, as Core ML's packages are."""
        return self.suffix == ".mlpackage"


TABLE: Mapping[str, Engine] = MappingProxyType(
    {
        "onnxruntime": Engine(
            "onnxruntime",
            "onnxruntime",
            "deploy.writers.onnx",
            "deploy.runtimes.onnxruntime",
            ".onnx",
        ),
        "litert": Engine(
            "ai_edge_litert",
            "ai-edge-litert",
            "deploy.writers.tflite",
            "deploy.runtimes.litert",
            ".tflite",
        ),
        "ncnn": Engine(
            "ncnn",
            "ncnn",
            "deploy.writers.ncnn",
            "deploy.runtimes.ncnn",
            ".param",
        ),
        "openvino": Engine(
            "openvino",
            "openvino",
            "deploy.writers.onnx",
            "deploy.runtimes.openvino",
            ".onnx",
        ),
        "coreml": Engine(
            "coremltools",
            "coremltools",
            "deploy.writers.coreml",
            "deploy.runtimes.coreml",
            ".mlpackage",
        ),
    }
)


def installed() -> list[str]:
    """Returns the names of the engines that Python finds here."""
    return [name for name in ENGINES if importlib.util.find_spec(TABLE[name].package)]


def engine(name: str) -> Engine:
    """Returns an engine.

    Raises:
      ValueError: there is none of this name; the message lists those installed.
    """
    if name not in TABLE:
        here = ", ".join(installed()) or "none"
        raise ValueError(
            f"no engine {name!r}: take one of {', '.join(ENGINES)}; installed are {here} "
            "(`pip install -r requirements-deploy.txt` installs all)"
        )
    return TABLE[name]


def check_installed(name: str) -> None:
    """Refuses an engine that is not here, and says how to get it; nothing is imported.

    Raises:
      ValueError: there is no such engine, or it is not installed.
    """
    found = engine(name)
    if not importlib.util.find_spec(found.package):
        here = ", ".join(installed()) or "none"
        raise ValueError(
            f"engine {name!r} is not installed: `pip install {found.install}`; installed are {here}"
        )


def runtime(name: str) -> ModuleType:
    """Returns the module that runs an engine's files.

    Raises:
      ValueError: there is no such engine, or it is not installed.
    """
    check_installed(name)
    return importlib.import_module(engine(name).runtime)


def load(path: str | Path, engine: str, threads: int = 1) -> Callable[..., Any]:
    """Returns a file of an engine as a function of numpy arrays.

    Args:
      path: of the file, as `export` returned it first.
      engine: one of `ENGINES`.
      threads: on which the engine computes.

    Returns:
      A function of arrays [N, …] that are as the example with which the file was made (images
      [N, H, W, C]), N a multiple of its batch, that gives the logits [N, classes], or a tuple of
      arrays if the network has several outputs. It raises ValueError about other shapes.

    Raises:
      ValueError: there is no such engine, or it is not installed; the threads are less than 1 or
        more than `MOST_THREADS`; the engine cannot read the file.
      FileNotFoundError: there is no such file.

    Example:
        >>> import deploy
        >>> double = lambda factor, inputs: factor * inputs
        >>> files = deploy.export(double, 2.0, jnp.zeros((1, 2)), "onnxruntime", "double")
        >>> run = deploy.load("double.onnx", "onnxruntime")  # which needs no JAX
        >>> run(np.float32([[1, 2], [3, 4]])).tolist()
        [[2.0, 4.0], [6.0, 8.0]]
    """
    is_count = isinstance(threads, numbers.Integral) and not isinstance(threads, bool)
    if not is_count or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads={threads!r} must be a count from 1 to {MOST_THREADS}")
    module = runtime(engine)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir() and not TABLE[engine].is_folder:
        raise ValueError(f"{path} is a folder, where {engine} reads one file")
    return module.load(path, int(threads))
