"""Writes rows of metrics from counts that may still be under way from the device."""

# R replicates

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from groundwork.devices import mesh
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.runs.progress import Reporter
from groundwork.runs.unit import Unit
from groundwork.train.losses import Counts
from groundwork.train.step import NEVER


class Pending(NamedTuple):
    """Results that may still be under way from the device."""

    step: int
    counts: dict[str, Counts]
    first_bad: jax.Array


class Writer:
    """Writes the rows of a unit, those of each evaluation once the next one is pushed."""

    def __init__(
        self, unit: Unit, fields: Mapping[str, Any], reporter: Reporter, stop: int, rows: int
    ) -> None:
        self.rows = rows  # of this unit, so far
        self._unit, self._fields, self._reporter, self._stop = unit, fields, reporter, stop
        self._begun = time.monotonic()
        self._waiting: list[Pending] = []

    def push(self, pending: Pending) -> None:
        """Takes the newest results, and writes those before."""
        self.flush()
        counts, first_bad = mesh.gather((pending.counts, pending.first_bad))
        self._waiting.append(Pending(pending.step, counts, first_bad))

    def flush(self) -> None:
        """Fetches, checks and writes the results that are waiting."""
        for pending in self._waiting:
            _check_first_bad(pending.first_bad, self._unit.name)
            for split, counts in pending.counts.items():
                rows = self.write(split, pending.step, counts)
            names = ("loss", *counts.measures)
            means = {name: float(np.mean([row[name] for row in rows])) for name in names}
            self._reporter.update(pending.step, self._stop, means)
        self._waiting.clear()

    def write(self, split: str, step: Any, counts: Counts, **fields: Any) -> list[metrics.Row]:
        """Writes and returns one row per replicate; `step` and `fields` are scalars or [R]."""
        sums = {"loss": np.asarray(counts.loss)}
        sums |= {name: np.asarray(total) for name, total in counts.measures.items()}
        shared = {"step": step, **self._fields, **fields}
        rows = []
        for replicate, examples in enumerate(np.asarray(counts.examples).tolist()):
            about = {k: v[replicate] if np.ndim(v) else v for k, v in shared.items()}
            about = {k: v.item() if isinstance(v, np.generic) else v for k, v in about.items()}
            means = {name: total[replicate].item() / examples for name, total in sums.items()}
            if not math.isfinite(means["loss"]):
                raise not_finite(f"{split} loss", self._unit.name, replicate, about["step"])
            row = {"unit": self._unit.name, **about, "replicate": replicate, "split": split}
            rows.append({**row, **means, "seconds": round(time.monotonic() - self._begun, 3)})
        self._unit.run.record(rows)
        self.rows += len(rows)
        return rows


def _check_first_bad(first_bad: jax.Array, unit: str) -> None:
    steps = np.asarray(first_bad)
    if (steps != NEVER).any():
        replicate = int(np.argmin(steps))
        raise not_finite("training loss", unit, replicate, int(steps[replicate]))


def not_finite(name: str, unit: str, replicate: int, step: int) -> UserError:
    """Returns the error of a training that diverged."""
    return UserError(
        f"the {name} is not finite: {unit}, replicate {replicate}, step {step}. What was saved "
        "before is kept; try a smaller learning rate (in another --workdir)"
    )
