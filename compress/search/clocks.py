"""What measures milliseconds: XLA on this machine, or an engine of `deploy`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from groundwork import named
from groundwork.errors import about
from groundwork.train import latency
from groundwork.trees import Variables

XLA = "xla"
# `deploy` stands above this package. It is imported where a config asks for an engine, by name, as
# a function of the user's own is.
OF_ENGINES = "deploy.clock:of"


class Call(NamedTuple):
    """One call of a network, or of a layer."""

    apply: Callable[..., Any]  # (variables, inputs) → outputs
    variables: Variables
    inputs: Any  # [B, …]


Clock = Callable[[Sequence[Call]], list[float]]
"""Calls → the milliseconds that each takes; they are measured in turns."""


def clock(engine: str = XLA, threads: int = 1, key: str = "budget.engine") -> Clock:
    """Returns the clock of an engine.

    Args:
      engine: `xla`, which computes on all processors, or an engine of `deploy`.
      threads: on which an engine computes.
      key: the config's key that names the engine, for errors.

    Raises:
      UserError: there is no such engine, or it is not installed; the message lists those that are.
    """
    if engine == XLA:
        return xla
    make = named.load(key, OF_ENGINES)
    with about(key):
        return make(engine, threads)


def xla(calls: Sequence[Call]) -> list[float]:
    """Returns the milliseconds of each call, compiled by XLA: medians over calls in turns."""
    compiled = [
        functools.partial(jax.jit(apply), jax.tree.map(jnp.asarray, variables), inputs)
        for apply, variables, inputs in calls
    ]
    return [1e3 * seconds for seconds in latency.medians(compiled)]
