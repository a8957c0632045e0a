"""Core ML's packages as functions of numpy arrays. It needs numpy and coremltools, and macOS."""

# B batch

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtimes import batches


def load(path: Path, threads: int) -> Callable[..., Any]:
    """Returns a function of arrays [N, …], B at a time; see `engines.load`.

    It computes on the CPU; how many threads it takes is Core ML's own choice.

    Raises:
      ValueError: this is not macOS, the only system on which Core ML predicts.
    """
    if sys.platform != "darwin":
        raise ValueError(f"{path}: Core ML predicts on macOS only, not on {sys.platform}")
    import coremltools as ct

    try:
        model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)
    except Exception as error:  # coremltools raises many kinds about what it cannot read
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: coremltools cannot read it: {reason}") from error
    description = model.get_spec().description
    names = [one.name for one in description.input]
    types = {one.name: one.type.multiArrayType for one in description.input}
    shapes = [tuple(types[name].shape) for name in names]
    is_whole = {name: types[name].dataType == types[name].INT32 for name in names}
    results = sorted((one.name for one in description.output), key=_index)

    def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        given = {
            name: np.asarray(array, np.int32 if is_whole[name] else np.float32)
            for name, array in zip(names, arrays, strict=True)
        }
        found = model.predict(given)
        return [np.asarray(found[name]) for name in results]

    return batches.over(call, shapes, results == ["logits"])


def _index(name: str) -> int:
    return int(name.removeprefix("logits").removeprefix("_") or 0)
