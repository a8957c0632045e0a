"""`export`: a network as the file of an engine."""

import importlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deploy import engines, grids
from deploy.graphs import trace
from deploy.graphs.graph import Graph
from groundwork.trees import Variables

MOST_BYTES = 2**31 - 2**20  # of constants: a file of protobuf or flatbuffers ends at 2 GiB


def export(
    model: Any,
    variables: Variables,
    example: Any,
    engine: str,
    path: str | Path,
    int8: Any = None,
) -> list[Path]:
    """Writes a network as the file of an engine, which computes for batches like the example.

    Args:
      model: a module (Linen's are called with `train=False` where they take it), a narrowed or
        low-rank network, or any function (variables, inputs) → outputs that JAX traces.
      variables: of the network; None takes those of an NNX module itself.
      example: inputs [B, …]; their values do not matter.
      engine: one of `engines.ENGINES`.
      path: of the file; the engine's suffix is added where it is missing.
      int8: inputs [N, …] like those that the network will see, from which the ranges of all values
        are taken, for a network of 8-bit integers; None for one of floats.

    Returns:
      The files, first the one that `load` takes.

    Raises:
      ValueError: there is no such engine; the network has an operation that the graph or the engine
        has not, which is named with its layer; shapes are not all known; the calibration inputs do
        not fit; the example has no examples; the file would be larger than 2 GB.
      OSError: the file cannot be written, or its folder does not exist.

    Example:
        >>> import deploy
        >>> network = lambda kernel, inputs: jax.nn.relu(inputs @ kernel)
        >>> kernel, example = jnp.array([[1.0, -1.0]]), jnp.zeros((1, 1))
        >>> files = deploy.export(network, kernel, example, "onnxruntime", "net")
        >>> [str(path) for path in files]
        ['net.onnx']
        >>> deploy.load(files[0], "onnxruntime")(np.float32([[3.0]])).tolist()
        [[3.0, 0.0]]
    """
    engines.engine(engine)
    _check_place(_completed(engine, path), engine)
    if any(np.shape(leaf)[:1] == (0,) for leaf in jax.tree.leaves(example)):
        raise ValueError("the example has no examples: give inputs [B, …], B from 1")
    graph = trace.graph(model, variables, example)
    if int8 is not None:
        graph = grids.quantized(graph, int8)
    return write(graph, engine, path)


def write(graph: Graph, engine: str, path: str | Path) -> list[Path]:
    """Writes a graph as the file of an engine; see `export`."""
    found = engines.engine(engine)
    path = _completed(engine, path)
    _check_place(path, engine)
    total = sum(array.nbytes for array in graph.constants.values())
    if total > MOST_BYTES:
        raise ValueError(
            f"{total / 1e9:.1f} GB of constants are more than the 2 GB that one file can have"
        )
    return list(importlib.import_module(found.writer).write(graph, path))


def _completed(engine: str, path: str | Path) -> Path:
    """Returns a path with the engine's suffix."""
    path, suffix = Path(path), engines.engine(engine).suffix
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def _check_place(path: Path, engine: str) -> None:
    """Refuses a path where no file can be, before anything is traced.

    Raises:
      OSError: its folder is missing or a file, or it is a folder itself.
    """
    if not path.parent.exists():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is a file, not a folder")
    if path.is_dir() and not engines.engine(engine).is_folder:
        raise IsADirectoryError(f"{path} is a folder: give another path")
