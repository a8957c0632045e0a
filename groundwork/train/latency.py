"""Wall-clock times of calls on this machine: medians of calls that take turns."""

import functools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.numerics.times import Times
from groundwork.train.replicates import quickly
from groundwork.train.step import Model
from groundwork.trees import Variables

STAT = Path("/proc/stat")
TICKS = os.sysconf("SC_CLK_TCK")  # of a second
LEAST_WATCHED = 0.5  # seconds of all processors together
BATCHES = (1, 128)  # the batch sizes that networks are timed with
LEAST_SECONDS = 2e-3  # of a sample, in which shorter calls are repeated


def medians(calls: Sequence[Callable[[], Any]], repeats: int = 7) -> list[float]:
    """Returns the median seconds of each call; samples alternate, after a first call of each."""
    return [statistics.median(seconds) for seconds in samples(calls, repeats)]


def samples(calls: Sequence[Callable[[], Any]], repeats: int = 7) -> list[tuple[float, ...]]:
    """Returns seconds of each call, one number a turn, after a first call of each."""
    counts = []
    for call in calls:
        jax.block_until_ready(call())
        counts.append(1 + int(LEAST_SECONDS / max(_seconds(call, 1), 1e-7)))
    turns = [
        [_seconds(call, count) / count for call, count in zip(calls, counts, strict=True)]
        for _ in range(repeats)
    ]
    return list(zip(*turns, strict=True))


def milliseconds(
    original: Any, network: Model, variables: Variables, example: Any
) -> dict[str, list[Any]]:
    """Returns batch size → `Times` of a prediction by the original and by a network, as lists.

    Args:
      original: the module that the network was made of; timed with new variables.
      network: timed in turns with the original; not timed again if it is the original.
      variables: of the network, of one replicate.
      example: see `architectures.shapes`.
    """
    before = _busy()
    leaves, structure = jax.tree.flatten(trees.example(example))
    timed = [_compiled(original, tuple(leaves), structure)]
    if network.apply != original.apply:
        apply = jax.jit(functools.partial(network.apply, train=False))
        timed.append((apply, jax.tree.map(jnp.asarray, variables)))
    times: dict[str, list[float]] = {}
    for batch in BATCHES:
        inputs = jax.tree.unflatten(structure, [_some(leaf, batch) for leaf in leaves])
        calls = [functools.partial(apply, arguments, inputs) for apply, arguments in timed]
        found = [np.multiply(seconds, 1e3) for seconds in samples(calls)]
        (low, original, high), (own_low, own, own_high) = (
            np.quantile(found[place], (0.25, 0.5, 0.75)).tolist() for place in (0, -1)
        )
        times[str(batch)] = [original, own, low, high, own_low, own_high]
    others = _others(before, _busy())
    return {batch: [*Times(*values)._replace(others=others)] for batch, values in times.items()}


def _busy() -> tuple[float, float, float] | None:
    """Returns seconds of all processors, what they have worked, and what this process has."""
    try:
        first = STAT.read_text().partition("\n")[0].split()[1:9]
    except OSError:  # it is Linux's
        return None
    user, nice, system, idle, waiting, *interrupts = (int(ticks) / TICKS for ticks in first)
    worked = user + nice + system + sum(interrupts)  # and what other machines have stolen
    return worked + idle + waiting, worked, time.process_time()


def _others(before: tuple[float, ...] | None, after: tuple[float, ...] | None) -> float | None:
    """Returns the share of the processors' time that other processes took between two looks.

    None where the looks are so near that the kernel's ticks of 10 ms would be most of it.
    """
    if before is None or after is None:
        return None
    whole, worked, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, (worked - own) / whole) if whole > LEAST_WATCHED else None


@functools.cache
def _compiled(
    original: Any, leaves: tuple[Any, ...], structure: Any
) -> tuple[Callable[..., Any], Variables]:
    """Returns the original's call and variables, made once for all networks of a run."""
    example = trees.zeros(jax.tree.unflatten(structure, leaves))
    init = jax.jit(original.init, compiler_options=quickly())
    variables = init(jax.random.key(0), example)
    return jax.jit(functools.partial(original.apply, train=False)), variables


def _some(leaf: Any, batch: int) -> jax.Array:
    """Returns a batch of normal numbers, or of zeros for integers."""
    shape = (batch, *leaf.shape[1:])
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    return jnp.zeros(shape, leaf.dtype)


def _seconds(call: Callable[[], Any], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - begun
