"""python -m launch.slurm [--nodes=N …] -- COMMAND: a command on several machines under Slurm."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from groundwork import paths
from groundwork.entry import run_main
from groundwork.errors import UserError
from launch import cli
from launch.child import Child

STORY = """
Every task runs COMMAND. A main of this project finds the other tasks by itself, and they form one
mesh. The run's folder (--workdir of COMMAND) and --logs must be on a disk that all nodes share.

The job is told when it is preempted, and --save-seconds before its time is up; the command saves
and exits with 75, and the job goes back into the queue and continues. Any other code except 0 is a
failure, and becomes the job's code. scancel ends the job for good; it saves first if Slurm gives it
time.

  python -m launch.slurm --nodes=2 --gpus-per-node=8 --hours=12 --partition=gpu -- \\
      python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=runs/mnist1d_full
"""


class _Anywhere(SlurmExecutor):
    """An executor that writes scripts on machines without Slurm."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a job takes of a cluster."""
    flags = parser.add_argument_group("on Slurm")
    flags.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    flags.add_argument("--tasks-per-node", type=int, help="processes on each (one a GPU, or 1)")
    flags.add_argument("--gpus-per-node", type=int, help="GPUs of each machine")
    flags.add_argument("--cpus-per-task", type=int, help="cores of each process")
    flags.add_argument("--memory", help="of each machine, such as 64GB")
    flags.add_argument("--hours", type=float, default=1.0, help="until it is queued again (1)")
    flags.add_argument("--save-seconds", type=int, default=120, help="to save in at the end (120)")
    flags.add_argument("--times", type=int, default=100, help="most time-outs of a job (100)")
    flags.add_argument("--partition", help="and --account, --qos, --constraint: as for sbatch")
    for name in ("--account", "--qos", "--constraint"):
        flags.add_argument(name, help=argparse.SUPPRESS)
    flags.add_argument(
        "--sbatch", action="append", default=[], metavar="KEY=VALUE", help="any more"
    )


def executor(options: argparse.Namespace, folder: Path, name: str, parallel: int = 1) -> Any:
    """Returns submitit's executor for these flags; under --dry-run one that needs no Slurm.

    Raises:
      UserError: this machine has no Slurm, or a flag is not KEY=VALUE.
    """
    if not options.dry_run and SlurmExecutor.affinity() < 0:
        raise UserError("no Slurm here (srun is not on the PATH): submit from a login node")
    more = {"requeue": True, **dict(_pair(given) for given in options.sbatch)}
    asked = {
        "job_name": name,
        "nodes": options.nodes,
        # In a Slurm step, JAX gives each process one GPU of its node.
        "ntasks_per_node": options.tasks_per_node or options.gpus_per_node or 1,
        "gpus_per_node": options.gpus_per_node,
        "cpus_per_task": options.cpus_per_task,
        "mem": options.memory,
        "time": max(1, round(60 * options.hours)),
        "signal_delay_s": options.save_seconds,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "array_parallelism": parallel,
        "additional_parameters": more,
        # srun would end the other tasks by SIGTERM, which looks as if the job were preempted, so
        # that a failure would be queued again. JAX notices a lost process and fails in the others.
        "srun_args": ["--kill-on-bad-exit=0"],
    }
    kind = _Anywhere if options.dry_run else SlurmExecutor
    made = kind(folder=folder, max_num_timeout=options.times)
    made.update_parameters(**{key: value for key, value in asked.items() if value is not None})
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


def main(argv: Sequence[str]) -> None:
    """Submit the command, or with --dry-run show what would be submitted."""
    parser = cli.Parser("launch.slurm", "[FLAGS] -- COMMAND", STORY)
    parser.add_argument(
        "--logs", type=paths.given, default=Path("runs/slurm"), help="folder of the logs"
    )
    parser.add_argument("--name", default="lottery", help="of the job (default: lottery)")
    parser.add_argument("--dry-run", action="store_true", help="print the script, submit nothing")
    add_flags(parser)
    flags, words = cli.split(argv)
    options = parser.parse_args(flags)
    child = Child(tuple(cli.command(words)))
    made = executor(options, options.logs, options.name)
    if options.dry_run:
        print(f"# sbatch {made.folder}/JOB_submission.sh\n{script(made)}")
        print(f"# each task then runs\n{cli.shown(child.command)}")
        return
    (job,) = submit(made, [child])
    print(f"job {job.job_id}: {job.paths.stdout}, and what went wrong in {job.paths.stderr.name}")
    print(f"scancel {job.job_id} ends it; the same command then continues the run")


def _pair(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not key:
        raise UserError(f"--sbatch={given!r} must be KEY=VALUE or KEY, as sbatch has them")
    return key.lstrip("-"), value if equals else True


if __name__ == "__main__":
    run_main(main)
