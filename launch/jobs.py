"""The points of a sweep as submitit jobs: start them, wait for them, ask why they failed."""

import argparse
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError
from submitit.local.local import LocalExecutor, LocalJob

from groundwork import atomic, jsons
from groundwork.errors import UserError
from launch import slurm
from launch.child import SAVED, ChildFailedError

LOCAL_MINUTES = 60 * 24 * 365  # in effect, a local point has no time limit
LOCAL_POLL_SECONDS = 0.2
SLURM_POLL_SECONDS = 10.0
QUEUED = "jobs.json"  # in the folder of the logs: point → job, for all that were given to Slurm


class Outcome(NamedTuple):
    """How a point ended: finished, stopped or failed; if it failed, why."""

    state: str
    reason: str = ""


Children = Mapping[str, Any]  # name of a point → its Child
Say = Callable[[str], None]


def run_local(children: Children, logs: Path, parallel: int, say: Say) -> dict[str, Outcome]:
    """Run the children on this machine, `parallel` at a time, and return their outcomes.

    Ctrl-C and SIGTERM stop those that run: they save, then KeyboardInterrupt is raised again.
    """
    waiting = list(children)
    running: dict[str, Any] = {}
    outcomes: dict[str, Outcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                point = waiting.pop(0)
                running[point] = _start_shielded(children[point], logs / point)
                say(f"started {point}: {running[point].paths.stdout}")
            time.sleep(LOCAL_POLL_SECONDS)
            _collect(running, outcomes, say)
    except KeyboardInterrupt:
        for job in running.values():
            job._process.terminate()  # submitit passes it to the task, and a Child to the command
        say(f"stopping: waiting until {', '.join(running) or 'nothing'} has saved")
        while running:
            time.sleep(LOCAL_POLL_SECONDS)
            _collect(running, outcomes, say)
        raise
    return outcomes


def run_slurm(
    children: Children, logs: Path, options: argparse.Namespace, say: Say
) -> dict[str, Outcome]:
    """Queue the children as one array, wait for all, and return their outcomes.

    Those that are in Slurm's queue already are waited for, and not queued again.
    """
    waiting = {point: job for point, job in queued(logs).items() if point in children}
    fresh = [point for point in children if point not in waiting]
    if fresh:
        made = slurm.executor(options, logs, "sweep", options.parallel)
        jobs = slurm.submit(made, [children[point] for point in fresh])
        waiting.update(zip(fresh, jobs, strict=True))
        ids = {point: job.job_id for point, job in waiting.items()}
        atomic.write(logs / QUEUED, json.dumps(ids, indent=1))
    for point, job in waiting.items():
        say(f"{'queued' if point in fresh else 'was queued'} {point}: job {job.job_id}")
    outcomes: dict[str, Outcome] = {}
    try:
        while waiting:
            _collect(waiting, outcomes, say)
            time.sleep(SLURM_POLL_SECONDS if waiting else 0)
    except KeyboardInterrupt:
        array = " ".join(sorted({job.job_id.partition("_")[0] for job in waiting.values()}))
        say(f"the points stay in Slurm's queue; scancel {array} ends them")
        raise
    return outcomes


def queued(logs: Path) -> dict[str, Any]:
    """Returns the jobs, by point, that were submitted earlier and that Slurm still has.

    Raises:
      UserError: the file that lists them is damaged.
    """
    if not (logs / QUEUED).exists():
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    alive = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    try:
        ids = jsons.parse((logs / QUEUED).read_bytes())
        if not all(isinstance(number, str) for number in ids.values()):
            raise ValueError("a job is no text")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{logs / QUEUED} cannot be read ({error}): look with squeue which points are queued, "
            "and remove it"
        ) from error
    return {
        point: submitit.SlurmJob(folder=logs, job_id=number)
        for point, number in ids.items()
        if number in alive
    }


def why(error: str, code: int | None) -> str:
    """Returns one line of a log: the error that a main named, or the last line of a traceback."""
    lines = [line.strip() for line in error.splitlines()]
    lines = [line for line in lines if line and not line.startswith("submitit ")]
    said = [line for line in lines if line.startswith("error: ")]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    line = (said or raised or lines or ["it said nothing"])[-1].removeprefix("error: ")
    return line if code in (None, 2) else f"{line} (exit code {code})"


def _start_shielded(child: Any, logs: Path) -> Any:
    """Start a job that Ctrl-C at the terminal does not reach: it can save when we stop it."""
    for stale in logs.glob("*_result.pkl"):  # local jobs are named by process ids, which recur
        stale.unlink()
    executor = LocalExecutor(folder=logs)
    executor.update_parameters(timeout_min=LOCAL_MINUTES)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # children inherit that it is ignored
    try:
        return executor.submit(child)
    finally:
        signal.signal(signal.SIGINT, before)


def _collect(running: dict[str, Any], outcomes: dict[str, Outcome], say: Say) -> None:
    """Move the jobs that have ended from `running` to `outcomes`."""
    for point in [point for point, job in running.items() if job.done()]:
        outcomes[point] = outcome = _outcome(running.pop(point))
        say(f"{outcome.state} {point}" + (f": {outcome.reason}" if outcome.reason else ""))


def _outcome(job: Any) -> Outcome:
    if isinstance(job, LocalJob) and not job.paths.result_pickle.exists():
        return Outcome("failed", f"its process is gone without a word; see {job.paths.stderr}")
    failure = job.exception()
    if failure is None:
        return Outcome("stopped" if SAVED in job.results() else "finished")
    code = re.findall(rf"{ChildFailedError.__name__}: (\d+)", str(failure))
    if code:
        return Outcome("failed", why(job.stderr() or "", int(code[-1])))
    if isinstance(failure, FailedJobError):  # the command did not even start
        return Outcome("failed", why(str(failure).split("-" * 22)[1], None))
    return Outcome("failed", " ".join(str(failure).split("\n")[:2]))  # as Slurm says it
