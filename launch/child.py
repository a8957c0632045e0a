"""A command as a job on Slurm: run it, tell it when it must stop, have it started again.

Submitit runs a `Child` in every task, and is imported only there. The scheduler sends submitit's
own signal (SIGUSR2: the job is almost out of time, or preempted) or a plain SIGTERM; either reaches
the command as SIGTERM. A command that exits with 75 has saved and wants to continue: rank 0 queues
the job again. It does so three times where the command hung and ended itself with 76.
"""

import dataclasses
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

SAVED = 75  # the exit code of a main that was told to stop and has saved
HUNG = 76  # its code when it did not move for checkpoint.hang_seconds
MOST_HANGS = 3  # what hangs more often may hang for ever
DEVICES = "JAX_LOCAL_DEVICE_IDS"  # without it, JAX takes one GPU in each task of a Slurm step
STATE_SECONDS = 60  # how long the scheduler may take to answer


class ChildFailedError(SystemExit, Exception):
    """The command failed. Submitit records it as an Exception; as a SystemExit it sets the code."""


@dataclasses.dataclass
class Child:
    """A command, and how often it has hung; submitit keeps that with the queued job.

    With `devices`, a task takes those of its number on the node.
    """

    command: tuple[str, ...]
    devices: tuple[str, ...] = ()  # GPUs as DEVICES has them
    hangs: int = 0

    def __call__(self) -> int:
        """Run the command to its end; returns 0, or 75 if it has saved and is not to continue.

        Raises:
          ChildFailedError: the command ended with another code.
          SystemExit: the command has saved, and the job is queued again.
        """
        import submitit

        job = submitit.JobEnvironment()
        user_signal = getattr(signal, f"SIG{job.USR_SIG}")
        requeue: Any = signal.getsignal(user_signal)  # submitit's own way to checkpoint a job
        own = {DEVICES: self.devices[job.local_rank]} if self.devices else {}
        code, received = self._run((signal.SIGTERM, user_signal), own)
        if code == 128 + signal.SIGTERM and received:
            code = SAVED  # it was told to stop before it could listen: there is nothing to save yet
        again = code == SAVED or (code == HUNG and self.hangs < MOST_HANGS)
        if again and _is_to_continue(job, received, user_signal):
            self.hangs += code == HUNG
            requeue(user_signal, None)  # on rank 0 this exits, elsewhere it does nothing
            raise SystemExit(0)  # without a result, since only rank 0's counts
        if code not in (0, SAVED):
            raise ChildFailedError(code)
        return code

    def checkpoint(self) -> Any:
        """Returns what submitit queues: the same command, which continues its run."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(
        self, signals: tuple[signal.Signals, ...], own: Mapping[str, str]
    ) -> tuple[int, set[int]]:
        """Run the command with variables of its `own`, and pass on `signals`.

        Returns its exit code and the signals that came.
        """
        received: set[int] = set()
        running: list[subprocess.Popen] = []
        told: list[bool] = []

        def tell() -> None:
            if received and running and not told:  # once: a second signal may cut the save short
                told.append(True)
                running[0].send_signal(signal.SIGTERM)

        def forward(number: int, _: FrameType | None) -> None:
            received.add(number)
            tell()

        before: dict[int, Callable | int | None] = {n: signal.signal(n, forward) for n in signals}
        try:
            print(f"+ {shlex.join(self.command)}", flush=True)
            with subprocess.Popen(self.command, env={**os.environ, **own}) as child:
                running.append(child)
                tell()  # of signals that came before there was a child
                code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return (code if code >= 0 else 128 - code), received


def _is_to_continue(job: Any, received: set[int], user_signal: int) -> bool:
    """Is a command that has saved to be started again?

    Yes, unless somebody has stopped the job: then Slurm no longer counts it as running (after
    `scancel`, or because it is in the queue again already).
    """
    if user_signal in received:
        return True
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job.raw_job_id}"]
    states = subprocess.run(command, capture_output=True, text=True, timeout=STATE_SECONDS)
    return states.returncode != 0 or "RUNNING" in states.stdout.split()  # yes if in doubt
