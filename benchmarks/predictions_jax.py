"""Our side of `benchmarks.predictions`: a network by `predictor`, by XLA's jit, or as a file."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import deploy
from benchmarks.convolution_jax import build
from groundwork.traced.predictions import predictor


def make(network: str, batch: int, by: str) -> tuple[Callable[[str, int], None], Any]:
    """Returns (what, steps) → None, for `infer`; and None.

    Args:
      network: `msdnet`, or a name in `architectures`.
      batch: images of 32×32×3.
      by: `predictor`, `jit`, or an engine of `deploy`, on as many threads as there are processors.
    """
    model = build(network)
    images = np.random.default_rng(0).normal(size=(batch, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))
    if by not in ("predictor", "jit"):
        return on_engine(model, variables, images, by), None

    def apply(variables: Any, images: Any) -> Any:
        return model.apply(variables, images, train=False)

    on_device = jnp.asarray(images)
    weights, call = variables, apply
    if by == "predictor":
        made = predictor(apply, variables, images)
        weights, call = made.prepare(variables), made.apply
    compiled = jax.jit(call)

    def run(what: str, steps: int) -> None:
        for _ in range(steps):
            outputs = compiled(weights, on_device)
        jax.block_until_ready(outputs)

    return run, None


def on_engine(model: Any, variables: Any, images: Any, engine: str) -> Callable[[str, int], None]:
    """Returns what runs a network's file."""
    with tempfile.TemporaryDirectory() as folder:
        file, *_ = deploy.export(model, variables, images, engine, Path(folder) / "network")
        call = deploy.load(file, engine, threads=len(os.sched_getaffinity(0)))

    def run(what: str, steps: int) -> None:
        for _ in range(steps):
            call(images)

    return run
