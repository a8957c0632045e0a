"""What an operator watches, read back: rows of metrics.jsonl with `"kind": "operations"`.

`train/meter.py` writes them, and says what they hold. A row tells of the steps from `first_step` to
`step` of a unit, in one process. Where a unit was begun again, a row with `continues_at` tells of
the steps that nothing else tells of, because what computed them was killed.
"""

import datetime
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from groundwork import jsons
from groundwork.runs import metrics
from groundwork.runs.metrics import Row

KIND = "operations"


class Goodput(NamedTuple):
    """How much of what a run computed counts.

    Attributes:
      computed: steps that were computed, in all starts of the run.
      useful: those without the ones that were computed again.
      time: the share of the time since the first start that was spent in steps; None if it is not
        known when that was.
    """

    computed: int
    useful: int
    time: float | None

    @property
    def steps(self) -> float:
        """The useful share of the computed steps."""
        return self.useful / self.computed if self.computed else 1.0


class Spent(NamedTuple):
    """What a unit's training took.

    Attributes:
      steps: of it, each counted once.
      seconds: in steps, with their evaluations, and with those that were computed again.
    """

    steps: int
    seconds: float


def read(path: Path) -> list[Row]:
    """Returns the rows of the first process in metrics.jsonl, which stand for all."""
    rows = metrics.read(path, KIND)
    return [row for row in rows if row.get("process") == 0 and _whole(row)]


def goodput(rows: Iterable[Row], began: float | None) -> Goodput:
    """Returns the goodput of a run from its rows.

    Args:
      rows: see `read`.
      began: when it was started first, in seconds since 1970 (see `first_start`).
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    busy = latest = 0.0
    for row in rows:
        spans.setdefault(row["unit"], []).append((row["first_step"], row["step"]))
        busy += (row["step"] - row["first_step"]) * row.get("step_seconds", 0.0)
        latest = max(latest, row["time"])
    computed = sum(stop - first for unit in spans.values() for first, stop in unit)
    useful = sum(map(_covered, spans.values()))
    known = began is not None and latest > began
    return Goodput(computed, useful, min(1.0, busy / (latest - began)) if known else None)  # type: ignore[operator]


def spent(rows: Iterable[Row]) -> dict[str, Spent]:
    """Returns unit → what its training took, of the units that `rows` (see `read`) tell of."""
    spans: dict[str, list[tuple[int, int]]] = {}
    seconds: dict[str, float] = {}
    for row in rows:
        span = row["first_step"], row["step"]
        spans.setdefault(row["unit"], []).append(span)
        taken = (span[1] - span[0]) * row.get("step_seconds", 0.0)
        seconds[row["unit"]] = seconds.get(row["unit"], 0.0) + taken
    return {unit: Spent(_covered(spans[unit]), seconds[unit]) for unit in spans}


def first_start(folder: Path) -> float | None:
    """Returns when a run was started first, in seconds since 1970; None if it does not tell."""
    said = str(_first(folder).get("time"))
    try:
        return datetime.datetime.strptime(said, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:  # the line was damaged, and the run can do without
        return None


def typed(folder: Path) -> list[str]:
    """Returns the command line by which a run was started first; empty if it does not tell."""
    first = _first(folder)
    command, argv = first.get("command"), first.get("argv")
    if not isinstance(command, str) or not isinstance(argv, list):
        return []
    return ["python", "-m", f"{command}.main", *map(str, argv)]


def _first(folder: Path) -> dict[str, Any]:
    """Returns the line of the first start; empty if there is none, or it was damaged."""
    try:
        found = jsons.parse((folder / "starts.jsonl").read_bytes().partition(b"\n")[0])
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def summary(folder: Path, path: Path) -> str:
    """Returns a line on a run's goodput; empty if all steps that were computed count.

    Args:
      folder: of the run.
      path: of its metrics.jsonl.
    """
    found = goodput(read(path), first_start(folder))
    if found.useful == found.computed:
        return ""
    again = found.computed - found.useful
    line = f"goodput {found.steps:.3f}: {again} of {found.computed} steps were computed again"
    if found.time is None:
        return line
    return f"{line}; {found.time:.0%} of the time since the first start was spent in steps"


def note_restart(path: Path, unit: str, begins: int, continues: int) -> None:
    """Writes what an earlier start has computed of a unit, if it had begun, before it continues.

    The rows of its evaluations tell how far it came. What it computed after the last of them
    nothing tells.

    Args:
      path: of metrics.jsonl.
      unit: its name.
      begins: the step at which it first began.
      continues: the step from which it continues now.
    """
    rows = metrics.of_unit(path, unit)
    steps: list[Any] = [row.get("step") for row in rows if row.get("split") == "train"]
    reached = [step for step in steps if type(step) is int]
    if not reached:
        return
    told = [row for row in read(path) if row["unit"] == unit]
    last = told[-1] if told else {"step": begins}
    first: int = last["continues_at"] if "continues_at" in last else last["step"]
    row = {"unit": unit, "kind": KIND, "process": 0, "first_step": first}
    row |= {"step": max(first, *reached), "continues_at": continues, "time": round(time.time(), 3)}
    metrics.append(path, [row])


def _whole(row: Row) -> bool:
    """Returns whether a row has the numbers that are read; a damaged line may be JSON still."""
    steps = [row.get(name) for name in ("first_step", "step", "continues_at") if name in row]
    times = [row.get(name) for name in ("time", "step_seconds") if name in row]
    return (
        {"first_step", "step", "time"} <= row.keys()
        and all(type(step) is int for step in steps)
        and all(type(seconds) in (int, float) for seconds in times)
    )


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Returns how many steps lie in any of the spans (first, stop)."""
    count, end = 0, 0
    for first, stop in sorted(spans):
        count += max(0, stop - max(first, end))
        end = max(end, stop)
    return count
