"""What an operator watches of a unit while it trains, without waiting for the device.

Every process counts its own seconds and bytes. At an evaluation the counts start on their way to
the first process, which reads them one evaluation late, and writes one row for each process into
metrics.jsonl: at most one in ten seconds, and one at the unit's end.
"""

# P processes

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import monitoring

from groundwork.context import Context
from groundwork.devices import memory, processes
from groundwork.runs import operations

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


class _Counts(NamedTuple):
    """What a process has counted since the unit began, and what it holds now; each is [P]."""

    seconds: Any
    waited: Any  # seconds for data
    saving: Any  # seconds for checkpoints
    compiling: Any  # seconds
    resident: Any  # bytes of the process
    device: Any  # bytes of its fullest device; NaN if the backend does not tell
    device_peak: Any  # likewise, the most since the process began


class Meter:
    """Measures the training of one unit. All processes call its methods at the same steps."""

    def __init__(self, context: Context, unit: str, step: int, batch_size: int) -> None:
        self._run, self._unit = context.run, unit
        self._examples = batch_size * context.replicates  # of a step
        self._devices = [
            d for d in context.mesh.devices.flat if d.process_index == jax.process_index()
        ]
        self._begun = time.monotonic()
        self._saving = self._compiling = 0.0
        self._pending: tuple[int, Any] | None = None
        self._rows: list[Any] | None = None  # of the first process, of the whole run
        self._step, self._last = step, _Counts(*np.zeros((len(_Counts._fields), processes.count())))

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
        """Counts the time inside as that of a checkpoint."""
        begun = time.monotonic()
        yield
        self._saving += time.monotonic() - begun

    def reach(self, step: int, waited: float, end: bool = False) -> None:
        """Counts up to a step: that of an evaluation, or at the `end` the last one.

        Args:
          step: which the unit has reached.
          waited: seconds for which this process has waited for data since the unit began.
          end: whether the counts are written at once, for which the first process waits.
        """
        if self._pending:
            self._write(*self._pending, due=False)
        now = time.monotonic() - self._begun
        used, peak = _on_devices(self._devices)
        counts = _Counts(
            now, waited, self._saving, self._compiling, memory.of_process(), used, peak
        )
        self._pending = step, processes.gather(np.asarray(counts, np.float64))
        if end:
            self._write(*self._pending, due=True)

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self._compiling += duration_secs if event == COMPILING else 0.0

    def _write(self, step: int, gathered: Any, due: bool) -> None:
        """Writes rows of the steps since the last ones, if they are due, in the first process."""
        self._pending = None
        if not processes.first():
            return
        counts = _Counts(*processes.fetched(gathered).T)
        passed = counts.seconds[0] - self._last.seconds[0]
        if step == self._step or (passed < ROW_SECONDS and not due):
            return
        rows = [self._row(step, counts, process) for process in range(len(counts.seconds))]
        if self._rows is None:
            self._rows = operations.read(self._run.metrics)
        self._rows.append(rows[0])
        found = operations.goodput(self._rows, operations.first_start(self._run.folder))
        shared = {"goodput_steps": found.steps, "goodput_time": found.time}
        shared = {name: round(share, 4) for name, share in shared.items() if share is not None}
        self._run.record([row | shared for row in rows])
        self._step, self._last = step, counts

    def _row(self, step: int, counts: _Counts, process: int) -> dict[str, Any]:
        """Returns what one process did since the last row."""
        values = {name: float(value[process]) for name, value in counts._asdict().items()}
        before = {name: float(value[process]) for name, value in self._last._asdict().items()}
        spent = {
            name: values[name] - before[name]
            for name in ("seconds", "waited", "saving", "compiling")
        }
        steps = step - self._step
        in_steps = max(spent["seconds"] - spent["saving"] - spent["compiling"], 1e-9)
        row: dict[str, Any] = {"unit": self._unit, "kind": operations.KIND, "process": process}
        row |= {"first_step": self._step, "step": step, "time": round(time.time(), 3)}
        row |= {
            "step_seconds": in_steps / steps,
            "examples_per_second": steps * self._examples / in_steps,
            "data_wait": min(1.0, spent["waited"] / in_steps),
            "saving_seconds": spent["saving"],
            "compile_seconds": spent["compiling"],
        }
        row = {
            k: float(f"{v:.6g}") if isinstance(v, float) and k != "time" else v
            for k, v in row.items()
        }
        for name in ("resident", "device", "device_peak"):
            if not np.isnan(values[name]):
                row[f"{name}_bytes"] = int(values[name])
        return row


def _on_devices(devices: Iterable[jax.Device]) -> tuple[float, float]:
    """Returns bytes in use, and the most so far, of the fullest device; NaN if it is unknown."""
    told = [stats for device in devices if (stats := device.memory_stats())]
    used, peak = (
        max((float(stats[key]) for stats in told if key in stats), default=np.nan)
        for key in ("bytes_in_use", "peak_bytes_in_use")
    )
    return used, peak
