"""Layers alone, dense and sparse, for `python -m benchmarks.sparse --crossover`."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.architectures.cpu import chain as chain_lib
from groundwork.architectures.cpu import sparse
from groundwork.architectures.cpu.chain import Chain, Node
from groundwork.architectures.cpu.geometry import Geometry

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
STEPS = 8  # of a compiled loop


def layers() -> Iterator[tuple[str, Geometry]]:
    """Gives names of layers, and what they are."""
    for batch in (1, 2, 4, 16, 128):
        for inputs, outputs in ((100, 10), (300, 100), (784, 300), (2048, 1024)):
            yield f"product {inputs}×{outputs}", sparse.product(batch, inputs, outputs)
    for batch in (1, 16):
        for side, channels in ((32, 32), (16, 128), (8, 256), (4, 512), (2, 512)):
            for window in (1, 3):
                yield f"{window}×{window} {channels}, {side}²", conv(batch, side, channels, window)


def conv(batch: int, side: int, channels: int, window: int) -> Geometry:
    """Returns a convolution with as many outputs as channels and SAME padding."""
    pad = (window // 2, window // 2)
    return Geometry(
        input=(batch, side, side, channels),
        kernel=(window, window, channels, channels),
        output=(batch, side, side, channels),
        strides=(1, 1),
        padding=(pad, pad),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )


def rows(repeats: int) -> tuple[list[str], list[list[str]]]:
    """Returns a table: how many times a sparse layer's time the dense one takes, by density."""
    made = []
    for name, geometry in layers():
        kernel = np.random.default_rng(0).normal(size=geometry.kernel).astype(np.float32)
        calls = [_loop(_dense(name, geometry), geometry, kernel)]
        for density in DENSITIES:
            kept = np.random.default_rng(1).random(geometry.kernel) < density
            form = sparse.form(kept, geometry)
            if form is None:
                raise ValueError(f"{name} has no sparse form")
            node = Node("sparse", (0,), 1, form.fields(geometry))
            calls.append(_loop(node, geometry, np.where(kept, kernel, np.float32(0))))
        dense, *times = _times(calls, repeats)
        ratios = [f"{dense / one:.2f}" for one in times]
        made.append([name, str(geometry.input[0]), f"{dense:.1f}", *ratios])
        print(made[-1], file=sys.stderr)
    return ["layer", "examples", "dense, µs", *(f"{d}" for d in DENSITIES)], made


def _dense(name: str, geometry: Geometry) -> Node:
    if name.startswith("product"):
        return Node("dense", (0,), 1, (*geometry.input[::3], geometry.output[3]))
    return Node("convolve", (0,), 1, tuple(geometry.descriptor("output", 32).tolist()))


def _loop(node: Node, geometry: Geometry, kernel: np.ndarray) -> Callable[[], Any]:
    """Returns a call of a compiled loop over inputs."""
    chain = Chain((geometry.input, geometry.output), 1, (1,), (node,))
    shape = geometry.kernel[2:] if node.kind == "dense" else geometry.kernel
    packed = chain_lib.pack(
        chain, [kernel.reshape(shape), np.zeros(geometry.output[-1], np.float32)]
    )
    random = np.random.default_rng(2).normal(size=(STEPS, *geometry.input))
    many = jnp.asarray(random, jnp.float32)
    loop = jax.jit(lambda p, xs: lax.map(lambda x: chain_lib.run(chain, p, [x])[0], xs))
    return lambda: loop(packed, many)


def _times(calls: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Returns microseconds of a step, medians of turns."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(2 + 2 * repeats):
        for call, found in zip(calls, times, strict=True):
            begun = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= 2:
                found.append(1e6 * (time.perf_counter() - begun) / STEPS)
    return [statistics.median(found) for found in times]
