"""What an operator watches of a unit while it trains, without waiting for any device.

Every process counts its own seconds and bytes, and looks at them at evaluations. Its rows go to
metrics.jsonl through the first process: at most one in ten seconds, and one at the unit's end.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax import monitoring

from groundwork.context import Context
from groundwork.devices import memory, processes
from groundwork.runs import operations
from groundwork.runs.run import Run

ROW_SECONDS = 10.0  # the least time between two rows of a process
COMPILING = "/jax/core/compile/backend_compile_duration"  # JAX's name of this event


class Timed:
    """An iterator that knows how long it was waited for."""

    def __init__(self, iterator: Any) -> None:
        self.waited_seconds = 0.0
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begun = time.monotonic()
        try:
            return next(self._iterator)
        finally:
            self.waited_seconds += time.monotonic() - begun

    def close(self) -> None:
        """Closes what it iterates over."""
        self._iterator.close()


class Meter:
    """Measures the training of one unit in this process."""

    def __init__(self, context: Context, unit: str, step: int, batch_size: int) -> None:
        self._run, self._unit, self._step = context.run, unit, step
        self._examples = batch_size * context.replicates  # of a step
        self._devices = context.mesh.local_devices
        self._before = {"seconds": time.monotonic(), "waited": 0.0, "saving": 0.0, "compiling": 0.0}
        self._saving = self._compiling = 0.0

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Counts what JAX compiles inside."""
        monitoring.register_event_duration_secs_listener(self._hear)
        try:
            yield
        finally:
            monitoring.unregister_event_duration_listener(self._hear)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Counts the time inside as that of a checkpoint, without what is compiled for it."""
        begun, compiling = time.monotonic(), self._compiling
        yield
        self._saving += time.monotonic() - begun - (self._compiling - compiling)

    def reach(self, step: int, waited: float, end: bool = False) -> None:
        """Writes a row of the steps since the last one, if it is due.

        Args:
          step: which the unit has reached.
          waited: seconds for which this process has waited for data since the unit began.
          end: whether the unit ends here, so that what there is is due.
        """
        now = {"seconds": time.monotonic(), "waited": waited}
        now |= {"saving": self._saving, "compiling": self._compiling}
        passed = now["seconds"] - self._before["seconds"]
        if step == self._step or (passed < ROW_SECONDS and not end):
            return
        row = self._row(step, {name: now[name] - self._before[name] for name in now})
        self._step, self._before = step, now
        if processes.first():
            write(self._run, [row])
        else:
            processes.send(operations.KIND, json.dumps(row))

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self._compiling += duration_secs if event == COMPILING else 0.0

    def _row(self, step: int, spent: dict[str, float]) -> dict[str, Any]:
        """Returns the row of the steps in which these seconds were spent."""
        steps = step - self._step
        in_steps = max(spent["seconds"] - spent["saving"] - spent["compiling"], 1e-9)
        measured = {
            "step_seconds": in_steps / steps,  # with its share of the evaluations
            "examples_per_second": steps * self._examples / in_steps,  # of all processes together
            "data_wait": min(1.0, spent["waited"] / in_steps),  # share of the time in steps
            "saving_seconds": spent["saving"],
            "compile_seconds": spent["compiling"],
        }
        return {
            "unit": self._unit,
            "kind": operations.KIND,
            "process": processes.index(),
            "first_step": self._step,
            "step": step,
            "time": round(time.time(), 3),
            **{name: float(f"{value:.6g}") for name, value in measured.items()},
            "resident_bytes": memory.of_process(),
            **_on_devices(self._devices),
        }


def write(run: Run, rows: list[dict[str, Any]]) -> None:
    """Writes rows of the first process, and those of others that have arrived; it alone calls it.

    The rows of the first process get the goodput of the run so far.
    """
    before = operations.read(run.metrics) if rows else []
    found = operations.goodput([*before, *rows], operations.first_start(run.folder))
    shared = {"goodput_steps": found.steps, "goodput_time": found.time}
    shared = {name: round(share, 4) for name, share in shared.items() if share is not None}
    others = [json.loads(text) for text in processes.received(operations.KIND)]
    if rows or others:
        run.record([*(row | shared for row in rows), *others])


def _on_devices(devices: Iterable[jax.Device]) -> dict[str, int]:
    """Returns bytes in use, and the most so far, of the fullest device, if the backend tells."""
    told = [stats for device in devices if (stats := device.memory_stats())]
    names = {"device_bytes": "bytes_in_use", "device_peak_bytes": "peak_bytes_in_use"}
    return {
        name: max(stats[key] for stats in told)
        for name, key in names.items()
        if told and all(key in stats for stats in told)
    }
