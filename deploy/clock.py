"""An engine as a clock: how long functions take on it. `compress.search` asks it by name."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deploy import engines
from deploy.exports import export
from deploy.measure import Settings, Subject, measure, subject

SETTINGS = Settings(rounds=7, seconds=0.05, warmup_seconds=0.1, limit_seconds=120.0)

Call = tuple[Any, Any, Any]  # (variables, inputs) → outputs, variables, inputs [B, …]


def of(
    engine: str, threads: int = 1, settings: Settings = SETTINGS
) -> Callable[[Sequence[Call]], list[float]]:
    """Returns a function of calls → the milliseconds that an engine takes for each.

    A call is a network of floats, its variables, and its inputs. Those with inputs of the same
    shapes are measured in turns (`deploy.measure`), each in a process of its own.

    Args:
      engine: one of `engines.ENGINES`.
      threads: on which it computes.
      settings: how long is measured.

    Raises:
      ValueError: there is no such engine, or it is not installed; or, of the function, it cannot
        have a network, or fails.
    """
    engines.check_installed(engine)

    def milliseconds(calls: Sequence[Call]) -> list[float]:
        found: dict[int, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            for places in _alike(calls):
                subjects = {
                    place: _subject(calls[place], Path(folder) / str(place), engine, threads)
                    for place in places
                }
                found |= _medians(calls[places[0]], subjects, settings)
        return [found[place] for place in range(len(calls))]

    return milliseconds


def _alike(calls: Sequence[Call]) -> list[list[int]]:
    """Returns the places of calls whose inputs have the same shapes."""
    groups: dict[Any, list[int]] = {}
    for place, (_, _, inputs) in enumerate(calls):
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(inputs))
        groups.setdefault(shapes, []).append(place)
    return [*groups.values()]


def _subject(call: Call, path: Path, engine: str, threads: int) -> Subject:
    apply, variables, inputs = call
    file, *_ = export(apply, variables, inputs, engine, path)
    batch = jax.tree.leaves(inputs)[0].shape[0]
    return subject(engine, "float", threads, batch, file)


def _medians(call: Call, subjects: dict[int, Subject], settings: Settings) -> dict[int, float]:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(call[2])]
    measured, _, _ = measure([*subjects.values()], {len(arrays[0]): arrays}, settings)
    for one in subjects.values():
        if measured[one].failure:
            raise ValueError(f"{one.engine} measured nothing: {measured[one].failure}")
    return {place: measured[one].milliseconds[1] for place, one in subjects.items()}
