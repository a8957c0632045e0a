"""The points of a sweep as processes of this machine: start them, wait, ask why they failed."""

import contextlib
import dataclasses
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from groundwork.runs import place
from launch import cli
from launch.child import SAVED, Child

POLL_SECONDS = 0.2
REFUSED = 2  # the exit code of a main that a user's mistake ends, or a folder that is in use
LONGEST_BYTES = 2**20  # of the end of a log, which is looked through for a reason


class Outcome(NamedTuple):
    """How a point ended: finished, stopped or failed; if it failed, why."""

    state: str
    reason: str = ""

    def told(self, point: str) -> str:
        """Returns the line about the point that ended so."""
        return f"{self.state} {point}" + (f": {self.reason}" if self.reason else "")


Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class _Running:
    """A point's process, the log of its errors, and how long that was before it started."""

    process: subprocess.Popen
    errors: Path
    before: int


def run_local(
    children: Mapping[str, Child],
    logs: Path,
    parallel: int,
    say: Say,
    folders: Mapping[str, Path] | None = None,
) -> dict[str, Outcome]:
    """Run the children on this machine, `parallel` at a time, and return their outcomes.

    A child whose run is in use, as after a sweep was killed and its points were not, counts as one
    that runs; it is started when the other command has ended. Ctrl-C and SIGTERM stop those that
    run: they save, then KeyboardInterrupt is raised again. What they say is appended to `log.out`
    and `log.err` in a folder of `logs` for each.

    Args:
      children: by point.
      logs: the folder of their logs.
      parallel: how many run at a time.
      say: is told what happens.
      folders: of their runs, by point.
    """
    places = folders or {}
    waiting = list(children)
    busy: list[str] = []  # in use by a command that is not ours
    running: dict[str, _Running] = {}
    outcomes: dict[str, Outcome] = {}

    def set_apart(points: list[str]) -> None:
        for point in [p for p in points if p in places and place.in_use(places[p])]:
            say(f"waiting for {point}: {places[point]} is in use by another process")
            busy.append(point)

    try:
        set_apart(waiting)
        waiting = [point for point in waiting if point not in busy]
        while waiting or running or busy:
            while waiting and len(running) + len(busy) < parallel:
                point = waiting.pop(0)
                running[point] = _start(children[point], logs / point)
                say(f"started {point}: {logs / point / 'log.out'}")
            time.sleep(POLL_SECONDS)
            set_apart(_collect(running, outcomes, say, places))
            for point in [point for point in busy if not place.in_use(places[point])]:
                busy.remove(point)
                waiting.insert(0, point)
    except BaseException:  # Ctrl-C, SIGTERM, or nobody hears what is said: no point is left alone
        _stop(running, outcomes, say)
        raise
    return outcomes


def _stop(running: dict[str, _Running], outcomes: dict[str, Outcome], say: Say) -> None:
    """Tell the running points to save, and wait for them."""

    def tell(text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            say(text)

    for job in running.values():
        job.process.terminate()
    tell(f"stopping: waiting until {', '.join(running) or 'nothing'} has saved")
    while running:
        time.sleep(POLL_SECONDS)
        _collect(running, outcomes, tell, {})


def _start(child: Child, logs: Path) -> _Running:
    """Start a process in a session of its own: Ctrl-C reaches only us, and it can save."""
    logs.mkdir(parents=True, exist_ok=True)
    with open(logs / "log.out", "ab") as out, open(logs / "log.err", "ab") as errors:
        out.write(f"+ {cli.as_typed(child.command)}\n".encode())
        out.flush()
        before = errors.tell()
        process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
    return _Running(process, logs / "log.err", before)


def _collect(
    running: dict[str, _Running],
    outcomes: dict[str, Outcome],
    say: Say,
    places: Mapping[str, Path],
) -> list[str]:
    """Move the points that have ended from `running` to `outcomes`.

    Returns those that ended since another command came first: they have no outcome.
    """
    late = []
    for point in [point for point, job in running.items() if job.process.poll() is not None]:
        job = running.pop(point)
        if job.process.returncode == REFUSED and point in places and place.in_use(places[point]):
            late.append(point)
            continue
        outcomes[point] = _outcome(job)
        say(outcomes[point].told(point))
    return late


def _outcome(job: _Running) -> Outcome:
    code = job.process.returncode
    if code == 0:
        return Outcome("finished")
    if code in (SAVED, -signal.SIGTERM):  # told to stop; maybe before there was anything to save
        return Outcome("stopped")
    with open(job.errors, "rb") as file:
        file.seek(max(job.before, job.errors.stat().st_size - LONGEST_BYTES))
        said = file.read().decode(errors="replace")
    return Outcome("failed", why(said, code if code > 0 else 128 - code))


def why(error: str, code: int | None) -> str:
    """Returns one line of a log: the error that a main named, or the last line of a traceback."""
    lines = [line.strip() for line in error.splitlines()]
    lines = [line for line in lines if line and not line.startswith("submitit ")]
    said = [line for line in lines if line.startswith("error: ")]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    line = (said or raised or lines or ["it said nothing"])[-1].removeprefix("error: ")
    if code in (None, REFUSED):
        return line
    return f"{line} (exit code {code}{_killed(code)})"


def _killed(code: int) -> str:
    """Returns what ended a process whose exit code is 128 and a signal's number."""
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return ""
    perhaps = ", perhaps since memory was short" if name == "SIGKILL" else ""
    return f": killed by {name}{perhaps}"
