"""Wall-clock of calls on this machine: medians of calls that take turns."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork.train.step import Model

BATCHES = (1, 128)  # examples that networks are timed on
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


def milliseconds(
    original: nn.Module, network: Model, variables: Any, shape: tuple[int, ...]
) -> dict[str, list[float]]:
    """Batch size → the original's predictions and a network's, in turns; once if it is that.

    Args:
      original: timed with new variables.
      network: what was made of it.
      variables: of the network, one replicate.
      shape: of an example.
    """
    timed = [_compiled(original, shape)]
    if network.apply != original.apply:
        apply = jax.jit(functools.partial(network.apply, train=False))
        timed.append((apply, jax.tree.map(jnp.asarray, variables)))
    found = {}
    for batch in BATCHES:
        x = jax.random.normal(jax.random.key(1), (batch, *shape))
        seconds = medians([functools.partial(apply, own, x) for apply, own in timed])
        found[str(batch)] = [1e3 * seconds[0], 1e3 * seconds[-1]]
    return found


@functools.cache
def _compiled(original: nn.Module, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Any]:
    """The original's call and variables, made once for all networks of a run."""
    variables = jax.jit(original.init)(jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.jit(functools.partial(original.apply, train=False)), variables


def _seconds(call: Callable[[], Any], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        found = call()
    jax.block_until_ready(found)
    return time.perf_counter() - begun
