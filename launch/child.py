"""A command as a submitit job: run it, tell it when it must go, have it started again.

Submitit runs a `Child` in every task. The signals of the scheduler, submitit's own (SIGUSR2: soon
out of time, or preempted) and a plain SIGTERM, reach the command as SIGTERM. A command that exits
with 75 has saved and would go on: the job is queued again, by rank 0 alone.
"""

import dataclasses
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission

SAVED = 75  # the exit code of a main that was told to stop, and has saved
STATE_SECONDS = 60  # to ask the scheduler


class ChildFailedError(SystemExit, Exception):
    """The command failed. As an Exception submitit records it; as a SystemExit it sets the code."""


@dataclasses.dataclass(frozen=True)
class Child:
    """A command, and variables that its environment differs in (None = without it)."""

    command: tuple[str, ...]
    environment: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def __call__(self) -> int:
        """Run the command to its end: 0, or 75 where it saved and nobody wants it to go on.

        Raises:
          ChildFailedError: it ended with another code.
          SystemExit: it has saved, and the job is queued again.
        """
        job = submitit.JobEnvironment()
        user_signal = getattr(signal, f"SIG{job.USR_SIG}")
        requeue: Any = signal.getsignal(user_signal)  # submitit's own way to checkpoint a job
        code, received = self._run((signal.SIGTERM, user_signal))
        if code == 128 + signal.SIGTERM and received:
            code = SAVED  # told to stop before it could answer: nothing to save yet
        if code not in (0, SAVED):
            raise ChildFailedError(code)
        if code == SAVED and _goes_on(job, received, user_signal):
            requeue(user_signal, None)  # on rank 0 it exits, elsewhere it does nothing
            raise SystemExit(0)  # without a result: rank 0's word counts
        return code

    def checkpoint(self) -> DelayedSubmission:
        """What submitit queues: the same command, which continues its run."""
        return DelayedSubmission(self)

    def _run(self, signals: tuple[signal.Signals, ...]) -> tuple[int, set[int]]:
        """Exit code of the command, and which of `signals` came meanwhile; they are passed on."""
        received: set[int] = set()
        running: list[subprocess.Popen] = []
        told: list[bool] = []

        def tell() -> None:
            if received and running and not told:  # once: a second one need not wait for the save
                told.append(True)
                running[0].send_signal(signal.SIGTERM)

        def forward(number: int, _: FrameType | None) -> None:
            received.add(number)
            tell()

        before: dict[int, Callable | int | None] = {n: signal.signal(n, forward) for n in signals}
        try:
            print(f"+ {shlex.join(self.command)}", flush=True)
            with subprocess.Popen(self.command, env=self._environment()) as child:
                running.append(child)
                tell()  # of what came before there was a child
                code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return (code if code >= 0 else 128 - code), received

    def _environment(self) -> dict[str, str]:
        merged = {**os.environ, **self.environment}
        return {key: value for key, value in merged.items() if value is not None}


def _goes_on(job: submitit.JobEnvironment, received: set[int], user_signal: int) -> bool:
    """Is a command that has saved to be started again?

    Yes, unless somebody stopped the job: Slurm then no longer counts it as running (`scancel`;
    or it is back in the queue already), and a local job got SIGTERM and no signal of submitit's.
    """
    if user_signal in received:
        return True
    if job.cluster != "slurm":
        return signal.SIGTERM not in received
    asked = ["squeue", "--noheader", "--format=%T", f"--jobs={job.raw_job_id}"]
    found = subprocess.run(asked, capture_output=True, text=True, timeout=STATE_SECONDS)
    return found.returncode != 0 or "RUNNING" in found.stdout.split()  # in doubt it goes on
