"""The progress of a run: bars on a terminal, plain lines in a file and elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from groundwork import terminal
from groundwork.atomic import READ_ONLY
from groundwork.devices import processes

LOG = "run.log"  # its name in the folder of a run
LINE_SECONDS = 10.0  # the least time between two plain lines of progress


class Reporter:
    """Shows units of the run and steps of the unit as bars on a terminal, and as lines in a file.

    Of several processes only the first one shows anything.
    """

    def __init__(self, log_file: Path, units: int, done: int):
        silent = not processes.first()
        self._file = _opened(os.devnull if silent else log_file, needed=done < units)
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
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._unit_bar = self._bars.add_task("units", total=units, completed=done, note="")
            self._step_bar = self._bars.add_task("steps", total=1, note="")

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
        if self._bars:
            self._bars.reset(self._step_bar, total=stop, completed=step, description=name)

    def update(self, step: int, stop: int, means: Mapping[str, float]) -> None:
        """Shows that the unit has reached `step`, with these means over replicates, by name."""
        now = time.monotonic()
        speed = (step - self._first) / max(now - self._begun, 1e-9)
        shown = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        note = f"{shown}  {speed:.0f} steps/s"
        if self._bars:
            self._bars.update(self._step_bar, completed=step, note=note)
        if now - self._said > LINE_SECONDS:
            self._said = now
            self.say(f"{self._name}  step {step}/{stop}  {note}", aloud=not self._bars)

    def end(self, note: str) -> None:
        """Shows that the unit is done."""
        seconds = time.monotonic() - self._begun
        self.say(f"{self._name}  done in {seconds:.1f} s  {note}")
        if self._bars:
            self._bars.advance(self._unit_bar)


def _opened(path: str | Path, needed: bool) -> IO[str]:
    """Returns a file to append to; nothing is kept of what only shows a run on a read-only disk."""
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        if needed or error.errno not in READ_ONLY:
            raise
        return open(os.devnull, "a", encoding="utf-8")
