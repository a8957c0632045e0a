"""python -m launch.slurm [--nodes=N …] -- COMMAND: a command on several machines under Slurm."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from groundwork.entry import run_main
from groundwork.errors import UserError
from launch import cli, slurm_gpus
from launch.child import Child
from launch.slurm_gpus import Layout

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


LONGEST_SIGNAL = 65535  # the most seconds that sbatch's --signal takes
EARLY_SECONDS = 60  # by which Slurm may send a signal too early


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a job takes of a cluster."""
    flags = parser.add_argument_group("on Slurm")
    flags.add_argument("--nodes", type=cli.at_least(1), default=1, help="machines (default: 1)")
    flags.add_argument(
        "--tasks-per-node",
        type=cli.at_least(1),
        help="processes on each, which share its GPUs evenly (one for each GPU, or 1)",
    )
    flags.add_argument("--gpus-per-node", type=cli.at_least(0), help="GPUs of each machine")
    flags.add_argument("--cpus-per-task", type=cli.at_least(1), help="cores of each process")
    flags.add_argument("--memory", type=cli.word, help="of each machine, such as 64GB")
    flags.add_argument(
        "--hours", type=cli.positive, default=1.0, help="until it is queued again (1)"
    )
    flags.add_argument(
        "--save-seconds", type=cli.at_least(1), default=120, help="to save in at the end (120)"
    )
    flags.add_argument(
        "--times", type=cli.at_least(0), default=100, help="most time-outs of a job (100)"
    )
    flags.add_argument(
        "--partition", type=cli.word, help="and --account, --qos, --constraint: as for sbatch"
    )
    for name in ("--account", "--qos", "--constraint"):
        flags.add_argument(name, type=cli.word, help=argparse.SUPPRESS)
    flags.add_argument(
        "--sbatch",
        type=cli.word,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any more of sbatch's, such as gres=gpu:a100:8 or wckey=KEY",
    )


def given(options: argparse.Namespace) -> list[str]:
    """Returns those of the flags of `add_flags` that say something else than by default."""
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    default = vars(parser.parse_args([]))
    changed = [name for name, value in default.items() if getattr(options, name) != value]
    return [f"--{name.replace('_', '-')}" for name in changed]


def check(options: argparse.Namespace) -> Layout:
    """Returns the layout of a job's nodes, once its flags are checked.

    Raises:
      UserError: two flags contradict one another, or a job would have no time to work.
    """
    limit = slurm_gpus.minutes(options.hours) * 60
    save = options.save_seconds
    if save > LONGEST_SIGNAL or save + EARLY_SECONDS >= limit:
        raise UserError(
            f"--save-seconds={save} must be at most {LONGEST_SIGNAL}, and leave time to work in: "
            f"Slurm tells a job up to {EARLY_SECONDS} s earlier, and --hours={options.hours:g} are "
            f"{limit} s"
        )
    return slurm_gpus.layout(options)


def submitit_side() -> ModuleType:
    """Returns `launch.slurm_array`, which needs submitit.

    Raises:
      UserError: submitit cannot be imported.
    """
    try:
        return importlib.import_module("launch.slurm_array")
    except ImportError as error:
        raise UserError(
            f"Slurm needs submitit ({error}): pip install -r requirements-launch.txt, or the "
            "extra `launch` where this code is installed"
        ) from error


def main(argv: Sequence[str]) -> None:
    """Submit the command, or with --dry-run show what would be submitted."""
    parser = cli.Parser("launch.slurm", "[FLAGS] -- COMMAND", STORY)
    parser.add_argument(
        "--logs", type=cli.path, default=Path("runs/slurm"), help="folder of the logs"
    )
    parser.add_argument(
        "--name", type=cli.word, default="lottery", help="of the job (default: lottery)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the script, submit nothing")
    add_flags(parser)
    flags, words = cli.split(argv)
    options = parser.parse_args(flags)
    layout = check(options)
    child = Child(tuple(cli.command(words)), layout.devices)
    slurm_array = submitit_side()
    made = slurm_array.executor(options, options.logs, options.name)
    if options.dry_run:
        print(f"# sbatch {made.folder}/JOB_submission.sh\n{slurm_array.script(made)}")
        print(f"# each task then runs\n{layout.told()}{cli.as_typed(child.command)}")
        return
    (job,) = slurm_array.submit(made, [child])
    print(f"job {job.job_id}: {job.paths.stdout}, and what went wrong in {job.paths.stderr.name}")
    print(f"scancel {job.job_id} ends it; the same command then continues the run")


if __name__ == "__main__":
    run_main(main)
