"""Wall-clock of layers and networks on this machine: medians of calls that take turns."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from architectures.surgery import Reached
from lowrank import candidates

BATCH = 128  # examples that layers are timed on
LEAST_SECONDS = 2e-3  # of a sample: shorter calls are repeated within it


def medians(calls: Sequence[Callable[[], Any]], repeats: int = 7) -> list[float]:
    """Seconds of each call, the median of samples taken in turns after a first call of each."""
    counts = []
    for call in calls:
        jax.block_until_ready(call())
        counts.append(1 + int(LEAST_SECONDS / max(_seconds(call, 1), 1e-7)))
    samples = [
        [_seconds(call, count) / count for call, count in zip(calls, counts, strict=True)]
        for _ in range(repeats)
    ]
    return [statistics.median(own) for own in zip(*samples, strict=True)]


def layer(reached: Reached, method: str, rank: Any) -> Callable[[], Any]:
    """All calls of a layer under a method, of `BATCH` random examples; to be timed."""
    shapes, compute = candidates.abstract(reached, method, rank)
    draw = np.random.default_rng(0)
    arrays = functools.partial(draw.standard_normal, dtype=np.float32)
    params = jax.tree.map(lambda leaf: jnp.asarray(arrays(leaf.shape)), shapes)
    inputs = [jnp.asarray(arrays((BATCH, *shape[1:]))) for shape in reached.inputs]
    compiled = jax.jit(lambda params, inputs: [compute(params, x) for x in inputs])
    return functools.partial(compiled, params, inputs)


def cost(reached: Reached, method: str, rank: Any) -> int:
    """Nanoseconds of a layer, for budgets in time."""
    return round(1e9 * medians([layer(reached, method, rank)])[0])


def layers(reached: Reached, method: str, rank: Any) -> tuple[float, float]:
    """Seconds of a layer as it is, and under a method."""
    calls = [layer(reached, candidates.DENSE, None), layer(reached, method, rank)]
    dense, factorised = medians(calls, repeats=15)
    return dense, factorised


def _seconds(call: Callable[[], Any], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        found = call()
    jax.block_until_ready(found)
    return time.perf_counter() - begun
