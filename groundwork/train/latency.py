"""Wall-clock times of calls on this machine: medians of calls that take turns."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.train.replicates import quickly
from groundwork.train.step import Model
from groundwork.trees import Variables

BATCHES = (1, 128)  # the batch sizes that networks are timed with
LEAST_SECONDS = 2e-3  # of a sample, in which shorter calls are repeated


def medians(calls: Sequence[Callable[[], Any]], repeats: int = 7) -> list[float]:
    """Returns the median seconds of each call; samples alternate, after a first call of each."""
    counts = []
    for call in calls:
        jax.block_until_ready(call())
        counts.append(1 + int(LEAST_SECONDS / max(_seconds(call, 1), 1e-7)))
    samples = [
        [_seconds(call, count) / count for call, count in zip(calls, counts, strict=True)]
        for _ in range(repeats)
    ]
    return [statistics.median(seconds) for seconds in zip(*samples, strict=True)]


def milliseconds(
    original: Any, network: Model, variables: Variables, example: Any
) -> dict[str, list[float]]:
    """Returns batch size → milliseconds of a prediction by the original and by a network.

    Args:
      original: the module that the network was made of; timed with new variables.
      network: timed in turns with the original; not timed again if it is the original.
      variables: of the network, of one replicate.
      example: see `architectures.shapes`.
    """
    leaves, structure = jax.tree.flatten(trees.example(example))
    timed = [_compiled(original, tuple(leaves), structure)]
    if network.apply != original.apply:
        apply = jax.jit(functools.partial(network.apply, train=False))
        timed.append((apply, jax.tree.map(jnp.asarray, variables)))
    times = {}
    for batch in BATCHES:
        inputs = jax.tree.unflatten(structure, [_some(leaf, batch) for leaf in leaves])
        calls = [functools.partial(apply, arguments, inputs) for apply, arguments in timed]
        seconds = medians(calls)
        times[str(batch)] = [1e3 * seconds[0], 1e3 * seconds[-1]]
    return times


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
