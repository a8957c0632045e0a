"""A dry run: the first steps are timed in a folder that is thrown away, and tell of the rest.

`Enough` ends the work when steps have been timed, as a signal would; `outlook` reads what was
written until then, and `lines` says it.
"""

import os
import shutil
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from groundwork import terminal
from groundwork.devices.interruption import BY_HAND, Interrupted, Interruption
from groundwork.runs import identity, operations
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run

SECONDS = 5.0  # of steps, after those that waited for the compiler
PATIENCE = 30.0  # seconds of what trains nothing, before it is given up
Steps = Mapping[str, int | None]  # unit → training steps; None where they are not known beforehand


class Timed(Interrupted):
    """A dry run has seen enough."""


class Enough(Interruption):
    """Asks a run to stop when its steps have been timed for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._made, self._began = time.monotonic(), 0.0

    @property
    def over(self) -> bool:
        """Whether steps have been timed for a while, or none have come for long."""
        now = time.monotonic()
        if self._checks < 2:
            return now - self._made > PATIENCE
        return now - self._began > SECONDS

    def reached(self) -> bool:
        """Returns whether to stop at this step: some seconds after the second time it is asked."""
        self._checks += 1
        if self._checks == 2:
            self._began = time.monotonic()
        return self._asked is not None or (self._checks > 2 and self.over)

    def stop(self, where: str) -> Interrupted:
        """Returns the exception to raise: `Timed`, or that of a signal."""
        if self._asked is None:
            return Timed("timed", 0)
        code = BY_HAND if self._asked == signal.SIGINT else 128 + self._asked
        return Interrupted(f"the dry run was stopped at {where}; nothing is kept", code)


class Watched(Reporter):
    """A reporter that ends a dry run between two units, too."""

    def __init__(self, log_file: Path, steps: Steps, done: Collection[str], enough: Interruption):
        super().__init__(log_file, steps, done)
        self._enough, self._first = enough, True

    def begin(self, name: str, step: int, stop: int) -> None:
        """Shows that a unit begins, if it is the first, or there is still something to be seen."""
        if isinstance(self._enough, Enough) and self._enough.over and not self._first:
            raise Timed("timed", 0)
        self._first = False
        super().begin(name, step, stop)


def copy(run: Path, to: Path) -> None:
    """Copies a run's folder; checkpoints are links, since what is saved gets new names.

    Files of networks are copied, since some are written anew in their place.
    """

    def one(source: str, target: str) -> None:
        inside = Path(source).relative_to(run).parts
        if inside[0] == "checkpoints":
            os.symlink(os.path.abspath(source), target)
        elif inside[0] in ("files", identity.FILE, "metrics.jsonl", "starts.jsonl"):
            shutil.copy2(source, target)

    shutil.copytree(run, to, copy_function=one)


class Outlook(NamedTuple):
    """What a dry run has seen.

    Attributes:
      unit: the last one whose steps were timed; empty if there was none.
      steps: that were timed, of all units.
      seconds: of one step, with its share of the evaluations; those of `unit`.
      by_unit: unit → seconds of one step of it.
      compiling: seconds of the compiler.
      bytes: unit → bytes of its checkpoint, finished or not.
    """

    unit: str
    steps: int
    seconds: float
    by_unit: Mapping[str, float]
    compiling: float
    bytes: Mapping[str, int]


NOTHING = Outlook("", 0, 0.0, {}, 0.0, {})


def outlook(run: Run, units: Sequence[str], before: int = 0) -> Outlook:
    """Returns what a run in a folder to be thrown away has shown until it was stopped.

    Args:
      run: in that folder.
      units: that were to be done.
      before: the rows of operations that were there before.
    """
    rows = operations.read(run.metrics)[before:]
    rows = [row for row in rows if "step_seconds" in row]
    steps: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for row in rows:
        count = row["step"] - row["first_step"]
        steps[row["unit"]] = steps.get(row["unit"], 0) + count
        seconds[row["unit"]] = seconds.get(row["unit"], 0.0) + count * row["step_seconds"]
    by_unit = {unit: seconds[unit] / steps[unit] for unit in steps}
    last = rows[-1]["unit"] if rows else ""
    saved = {name: _bytes(run.folder / "checkpoints" / name) for name in units}
    return Outlook(
        unit=last,
        steps=sum(steps.values()),
        seconds=by_unit.get(last, 0.0),
        by_unit=by_unit,
        compiling=sum(row["compile_seconds"] for row in rows),
        bytes={name: size for name, size in saved.items() if size},
    )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def lines(seen: Outlook, steps: Steps, done: Sequence[str], replicates: int) -> list[str]:
    """Returns what there is to do, a line for each question that one asks before a long run.

    Args:
      seen: of the first units.
      steps: of all units, in their order.
      done: the units that are done already.
      replicates: which train at once.
    """
    left = {unit: count for unit, count in steps.items() if unit not in done}
    if not left:
        return ["nothing is to be done: all units are done"]
    known = sum(count or 0 for count in left.values())
    unknown = [unit for unit, count in left.items() if count is None]
    trained = sum(count != 0 for count in left.values())
    at_once = f"{replicates} replicates at once" if replicates > 1 else "of one replicate"
    said = [("units", f"{len(left)} to do, {len(done)} done: {_listed(list(left))}")]
    also = f", and those of {_listed(unknown)}, not known before" if unknown else ""
    said.append(("steps", f"{known:,} in {trained} units, {at_once}{also}"))
    if seen.steps:
        each = f"{seen.seconds * 1000:.3g} ms in {seen.unit}"
        of = f"{seen.steps:,} steps timed, after {seen.compiling:.0f} s of compiling"
        said.append(("one step", f"{each} ({of})"))
        training = sum(
            (count or 0) * seen.by_unit.get(unit, seen.seconds) for unit, count in left.items()
        )
        least = "at least" if unknown else "about"
        if training or not unknown:
            said.append(("time", f"{least} {terminal.duration(training)} of training"))
        else:
            said.append(("time", "not known before units are done"))
        anew = terminal.duration(seen.compiling)
        said.append(("", f"and up to {anew} for each network that is compiled anew, and tests"))
    elif known or unknown:
        said.append(("time", "not known: nothing was trained in the first units"))
    else:
        said.append(("time", "not known: nothing is trained; units measure, or write files"))
    if seen.bytes:
        unit, size = max(seen.bytes.items(), key=lambda item: item[1])
        total = f"about {terminal.size(size * len(left))} of checkpoints"
        said.append(("disk", f"{total}, if all are as large as that of {unit}"))
    return [f"  {name:<9} {text}" for name, text in said]


def _listed(units: Sequence[str], shown: int = 3) -> str:
    """Returns the first names, and how many others there are."""
    more = len(units) - shown
    names = ", ".join(units[:shown])
    return f"{names} and {more} more" if more > 0 else names
