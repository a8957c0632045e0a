"""JAX itself beside the engines: a network's program in one file, and that file as a function."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from groundwork.architectures.cpu import library

_SAFE = [jax_export.DisabledSafetyCheck.custom_call(library.TARGET)]  # ours, loaded by `load`


def write(apply: Callable[..., Any], variables: Any, inputs: Any, path: Path) -> Path:
    """Writes the program of a network for inputs of these shapes; returns the path.

    It is what `jax.jit` makes of the network: kernels are arguments, and convolutions are computed
    as in this process, by oneDNN where that is built. It runs where this code and this version of
    JAX are.

    Args:
      apply: (variables, inputs) → outputs.
      variables: of the network.
      inputs: [B, …], an array or a tree of them.
      path: of the file.
    """
    leaves, structure = jax.tree.flatten(variables)
    arrays, of_inputs = jax.tree.flatten(inputs)

    def flat(leaves: list[Any], *arrays: Any) -> list[Any]:
        given = jax.tree.unflatten(of_inputs, arrays)
        return jax.tree.leaves(apply(jax.tree.unflatten(structure, leaves), given))

    program = jax_export.export(jax.jit(flat), disabled_checks=_SAFE)(leaves, *arrays)
    buffer = io.BytesIO()
    text = np.frombuffer(program.serialize(), np.uint8)
    np.savez(buffer, text, *(np.asarray(leaf) for leaf in leaves))
    path.write_bytes(buffer.getvalue())
    return path


def load(path: Path, threads: int) -> Callable[..., Any]:
    """Returns the program of a file as a function of numpy arrays of exactly its shapes.

    Args:
      path: of a file of `write`.
      threads: without effect: JAX computes on the processors that the process may use.
    """
    library.load()
    with np.load(path) as file:
        text, *arrays = (file[f"arr_{n}"] for n in range(len(file.files)))
    program = jax_export.deserialize(bytearray(text.tobytes()))
    leaves = [jax.device_put(array) for array in arrays]
    call = jax.jit(program.call)

    def run(*arrays: Any) -> Any:
        found = tuple(np.asarray(one) for one in call(leaves, *arrays))
        return found[0] if len(found) == 1 else found

    return run
