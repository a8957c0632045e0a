"""The contestants of `benchmarks.integers` that compute in integers."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress
import deploy
from benchmarks.convolution_jax import build
from compress import form as form_lib
from compress import quantize
from compress.form import Form

SHAPE = (32, 32, 3)
CALIBRATED_WITH = 64  # images


def make(network: str, batch: int, by: str) -> tuple[Callable[[str, int], None], Any]:
    """Returns (what, steps) → None, for `infer`; and None.

    Args:
      network: a name in `architectures`.
      batch: images of 32×32×3.
      by: `int8`: ours, of a file; or an engine of `deploy`, on as many threads as there are
        processors.
    """
    model = build(network)
    images = np.random.default_rng(0).normal(size=(batch, *SHAPE)).astype(np.float32)
    seen = np.random.default_rng(1).normal(size=(CALIBRATED_WITH, *SHAPE)).astype(np.float32)
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        if by != "int8":
            file, *_ = deploy.export(model, variables, images, by, path, int8=seen)
            call = deploy.load(file, by, threads=len(os.sched_getaffinity(0)))

            def of_engine(what: str, steps: int) -> None:
                for _ in range(steps):
                    call(images)

            return of_engine, None
        save(path, model, variables, seen)
        apply, arrays = compress.load(path, compute="int8")
    compiled, on_device = jax.jit(apply), jnp.asarray(images)

    def run(what: str, steps: int) -> None:
        for _ in range(steps):
            outputs = compiled(arrays, on_device)
        jax.block_until_ready(outputs)

    return run, None


def save(path: Path, model: Any, variables: Any, seen: np.ndarray) -> None:
    """Writes a file with kernels of 8 bits, and inputs of layers that are calibrated on images."""
    example = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    layers = dict.fromkeys(form_lib.reached(Form(model), example), 8)
    grids = form_lib.calibrated(Form(model), variables, jnp.asarray(seen), layers)

    def store(keys: Any, leaf: Any) -> Any:
        is_kernel = keys[-1].key == "kernel"
        return quantize.uniform(leaf, 8, axis=leaf.ndim - 1) if is_kernel else leaf

    stored = jax.tree_util.tree_map_with_path(store, variables)
    stored = {**stored, form_lib.ACTIVATIONS: grids}
    compress.save(path, model, stored, example=SHAPE, activations=layers)
