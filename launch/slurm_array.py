"""Commands as submitit's jobs on Slurm: one, or a sweep's points as an array.

This module and the tasks themselves need submitit; `slurm.submitit_side` imports it and says so.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from groundwork import atomic, jsons
from groundwork.errors import UserError
from launch import slurm_gpus
from launch.child import SAVED, Child, ChildFailedError
from launch.jobs import Outcome, Say, why

POLL_SECONDS = 10.0
QUEUED = "jobs.json"  # in the folder of the logs: point → job, for all that were given to Slurm


class _Anywhere(SlurmExecutor):
    """An executor that writes scripts on machines without Slurm."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def executor(options: argparse.Namespace, folder: Path, name: str, parallel: int = 1) -> Any:
    """Returns submitit's executor for these flags; under --dry-run one that needs no Slurm.

    Raises:
      UserError: this machine has no Slurm, or the flags contradict one another.
    """
    if not options.dry_run and SlurmExecutor.affinity() < 0:
        raise UserError("no Slurm here (srun is not on the PATH): submit from a login node")
    layout = slurm_gpus.layout(options)
    more = {"requeue": True, **slurm_gpus.more(options)}
    # srun would end the other tasks by SIGTERM, which looks as if the job were preempted, so that a
    # failure would be queued again. JAX notices a lost process and fails in the others.
    srun = ["--kill-on-bad-exit=0"]
    if options.cpus_per_task:  # Slurm 22.05 and later do not pass it on from sbatch to srun
        srun.append(f"--cpus-per-task={options.cpus_per_task}")
    asked = {
        "job_name": name,
        "nodes": options.nodes,
        "ntasks_per_node": layout.tasks,
        "gpus_per_node": options.gpus_per_node,
        "cpus_per_task": options.cpus_per_task,
        "mem": options.memory,
        "time": slurm_gpus.minutes(options.hours),
        "signal_delay_s": options.save_seconds,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "array_parallelism": parallel,
        "additional_parameters": more,
        "srun_args": srun,
    }
    kind = _Anywhere if options.dry_run else SlurmExecutor
    made = kind(folder=folder, max_num_timeout=options.times)
    made.update_parameters(**{key: value for key, value in asked.items() if value is not None})
    made.update_parameters(wckey=None)  # or submitit gives its own, which some clusters refuse
    return made


def script(made: Any, points: int = 1) -> str:
    """Returns the file that submitit hands to sbatch."""
    made.parameters.update({"map_count": points} if points > 1 else {})
    return made._make_submission_file_text(made._submitit_command_str, "")


def submit(made: Any, children: Sequence[Child]) -> list[submitit.Job]:
    """Queue the children, as one array if there are several, and return their jobs.

    Raises:
      UserError: sbatch refuses them; the error has its reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # submitit's pipes to sbatch
            return made.submit_array(children)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused: {' '.join(str(error).split())}") from error


def run_array(
    children: Mapping[str, Child], logs: Path, options: argparse.Namespace, say: Say
) -> dict[str, Outcome]:
    """Queue the children as one array, wait for all, and return their outcomes.

    Those that are in Slurm's queue already are waited for, and not queued again.
    """
    waiting = {point: job for point, job in queued(logs).items() if point in children}
    fresh = [point for point in children if point not in waiting]
    if fresh:
        made = executor(options, logs, "sweep", options.parallel or len(fresh))
        devices = slurm_gpus.layout(options).devices
        told = [dataclasses.replace(children[point], devices=devices) for point in fresh]
        jobs = submit(made, told)
        waiting.update(zip(fresh, jobs, strict=True))
        ids = {point: job.job_id for point, job in waiting.items()}
        atomic.write(logs / QUEUED, json.dumps(ids, indent=1))
    for point, job in waiting.items():
        say(f"{'queued' if point in fresh else 'was queued'} {point}: job {job.job_id}")
    outcomes: dict[str, Outcome] = {}
    try:
        while waiting:
            for point in [point for point, job in waiting.items() if job.done()]:
                outcomes[point] = _outcome(waiting.pop(point))
                say(outcomes[point].told(point))
            time.sleep(POLL_SECONDS if waiting else 0)
    except KeyboardInterrupt:
        array = " ".join(sorted({job.job_id.partition("_")[0] for job in waiting.values()}))
        say(f"the points stay in Slurm's queue; scancel {array} ends them")
        raise
    return outcomes


def queued(logs: Path) -> dict[str, Any]:
    """Returns the jobs, by point, that were submitted earlier and that Slurm still has.

    Raises:
      UserError: Slurm does not answer, or the list of what was submitted is damaged.
    """
    if not (logs / QUEUED).exists():
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"cannot ask Slurm what is queued: squeue: {error.strerror}") from error
    if asked.returncode:
        raise UserError(f"cannot ask Slurm what is queued: {' '.join(asked.stderr.split())}")
    alive = asked.stdout.split()
    try:
        ids = jsons.parse((logs / QUEUED).read_bytes())
        numbers = {str(point): str(number) for point, number in ids.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{logs / QUEUED} is damaged: remove it once squeue shows none of this sweep's jobs"
        ) from error
    return {
        point: submitit.SlurmJob(folder=logs, job_id=number)
        for point, number in numbers.items()
        if number in alive
    }


def _outcome(job: submitit.Job) -> Outcome:
    failure = job.exception()
    if failure is None:
        return Outcome("stopped" if SAVED in job.results() else "finished")
    code = re.findall(rf"{ChildFailedError.__name__}: (\d+)", str(failure))
    if code:
        return Outcome("failed", why(job.stderr() or "", int(code[-1])))
    if isinstance(failure, FailedJobError):  # the command did not even start
        return Outcome("failed", why(str(failure).split("-" * 22)[1], None))
    return Outcome("failed", " ".join(str(failure).split("\n")[:2]))  # as Slurm says it
