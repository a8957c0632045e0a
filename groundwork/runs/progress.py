"""The progress of a run: bars on a terminal, plain lines in a file and elsewhere."""

import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from groundwork import terminal
from groundwork.atomic import READ_ONLY
from groundwork.devices import processes

LOG = "run.log"  # its name in the folder of a run
LINE_SECONDS = 10.0  # the least time between two plain lines of progress


class Pace:
    """How long the rest takes, by what this process has computed so far.

    What an earlier process did, and units that train nothing, do not count.

    Args:
      steps: unit → its training steps; None where they are not known before other units are done.
      done: the units that are done already.
    """

    def __init__(self, steps: Mapping[str, int | None], done: Collection[str]):
        self._left = {unit: count for unit, count in steps.items() if unit not in done}
        self._unit, self._at, self._stop = "", 0, 0
        self._of_unit = self._of_run = _Mark()
        self._computed = 0

    def begin(self, unit: str, step: int, stop: int) -> None:
        """Notes that a unit goes on at a step."""
        self._unit, self._at, self._stop = unit, step, stop
        self._of_unit = _Mark()

    def reach(self, step: int, now: float) -> None:
        """Notes that the unit has reached a step. The first time, it waited for the compiler."""
        self._computed += step - self._at
        self._at = step
        self._of_unit = self._of_unit.set(now, step)
        self._of_run = self._of_run.set(now, self._computed)

    def end(self) -> None:
        """Notes that the unit is done."""
        self._left.pop(self._unit, None)

    def of_unit(self, now: float) -> float | None:
        """Returns the seconds that the unit still takes; None where that is not known yet."""
        return self._of_unit.takes(now, self._at, self._stop - self._at)

    def of_run(self, now: float) -> float | None:
        """Returns the seconds that all units still take; None where that is not known (yet)."""
        if self._unit not in self._left:  # on the way to one that is: its steps count there
            return None
        left = {**self._left, self._unit: self._stop - self._at}
        known = [count for count in left.values() if count is not None]
        if len(known) < len(left):
            return None
        return self._of_run.takes(now, self._computed, sum(known))


class _Mark(NamedTuple):
    """When a count was first looked at, and what it was."""

    time: float | None = None
    reached: int = 0

    def set(self, now: float, count: int) -> "_Mark":
        return _Mark(now, count) if self.time is None else self

    def takes(self, now: float, count: int, left: int) -> float | None:
        """Returns the seconds that as many more take as are left."""
        if self.time is None or count == self.reached:
            return None
        return (now - self.time) / (count - self.reached) * left


class Reporter:
    """Shows units of the run and steps of the unit as bars on a terminal, and as lines in a file.

    Of several processes only the first one shows anything.

    Args:
      log_file: to append to.
      steps: see `Pace`.
      done: the units that are done already.
    """

    def __init__(self, log_file: Path, steps: Mapping[str, int | None], done: Collection[str] = ()):
        silent = not processes.first()
        self._file = _opened(os.devnull if silent else log_file, needed=len(done) < len(steps))
        self._pace = Pace(steps, done)
        self._console = terminal.console(error=True)
        self._silent = silent
        self._bars: Progress | None = None
        self._unit_bar = self._step_bar = TaskID(0)
        self._begun = self._said = time.monotonic()
        self._name, self._first = "", 0
        if self._console.is_interactive and terminal.shows(sys.stderr) and not silent:
            self._bars = Progress(
                TextColumn("{task.description:<26}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[note]}", markup=False),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._unit_bar = self._bars.add_task(
                "units", total=len(steps), completed=len(done), note="", left=""
            )
            self._step_bar = self._bars.add_task("steps", total=1, note="", left="")

    def __enter__(self) -> "Reporter":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()
        self._file.close()

    def say(self, text: str, *, aloud: bool = True) -> None:
        """Writes one line to the file and, if `aloud`, to the terminal."""
        line = terminal.fitting(text, self._file)
        print(time.strftime("%H:%M:%S"), line, file=self._file, flush=True)
        if aloud and not self._silent:
            self._console.print(terminal.fitting(text, sys.stderr), soft_wrap=True)

    def begin(self, name: str, step: int, stop: int) -> None:
        """Shows that a unit begins or continues at `step`."""
        self._name, self._first, self._begun = name, step, time.monotonic()
        self._pace.begin(name, step, stop)
        if self._bars:
            self._bars.reset(
                self._step_bar, total=stop, completed=step, description=name, note="", left=""
            )

    def update(self, step: int, stop: int, means: Mapping[str, float]) -> None:
        """Shows that the unit has reached `step`, with these means over replicates, by name."""
        now = time.monotonic()
        speed = (step - self._first) / max(now - self._begun, 1e-9)
        shown = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        note = f"{shown}  {speed:.0f} steps/s"
        self._pace.reach(step, now)
        unit, run = self._pace.of_unit(now), self._pace.of_run(now)
        if self._bars:
            self._bars.update(self._step_bar, completed=step, note=note, left=_left(unit))
            self._bars.update(self._unit_bar, left=_left(run))
        if now - self._said > LINE_SECONDS:
            self._said = now
            whole = f", {terminal.duration(run)} for the run" if run is not None else ""
            left = f"  {_left(unit)}{whole}" if unit is not None else ""
            self.say(f"{self._name}  step {step}/{stop}  {note}{left}", aloud=not self._bars)

    def end(self, note: str) -> None:
        """Shows that the unit is done."""
        seconds = time.monotonic() - self._begun
        self._pace.end()
        self.say(f"{self._name}  done in {seconds:.1f} s  {note}")
        if self._bars:
            self._bars.advance(self._unit_bar)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{terminal.duration(seconds)} left"


def _opened(path: str | Path, needed: bool) -> IO[str]:
    """Returns a file to append to; nothing is kept of what only shows a run on a read-only disk."""
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        if needed or error.errno not in READ_ONLY:
            raise
        return open(os.devnull, "a", encoding="utf-8")
