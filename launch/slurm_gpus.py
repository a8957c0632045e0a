"""The tasks and GPUs of a Slurm job's nodes: how many tasks a node has, and which GPUs each takes.

By itself, JAX gives each process of a Slurm step the GPU of its number on the node. That is wrong
where a process is to have several, and where Slurm shows each task its own GPUs alone, so each task
is told (`launch/child.py`).
"""

import argparse
import re
from typing import Any, NamedTuple

from groundwork.errors import UserError

# What --sbatch must not say, since the launcher says it: what to give it instead.
FLAGS = {
    "account": "--account",
    "array": "python -m launch.sweep",
    "constraint": "--constraint",
    "error": "--logs",
    "job-name": "--name",
    "mem": "--memory",
    "no-requeue": "--times=0",
    "nodes": "--nodes",
    "ntasks": "--nodes and --tasks-per-node",
    "ntasks-per-node": "--tasks-per-node",
    "ntasks-per-gpu": "--tasks-per-node and --gpus-per-node",
    "cpus-per-task": "--cpus-per-task",
    "gpus": "--nodes and --gpus-per-node",
    "gpus-per-node": "--gpus-per-node (a kind of GPU as --sbatch=gres=gpu:KIND:NUMBER)",
    "gpu-bind": "--sbatch=gpus-per-task",
    "tres-per-task": "--cpus-per-task and --sbatch=gpus-per-task",
    "open-mode": "--logs",
    "output": "--logs",
    "partition": "--partition",
    "qos": "--qos",
    "tasks-per-node": "--tasks-per-node",
    "time": "--hours",
    "signal": "--save-seconds",
}


class Layout(NamedTuple):
    """The tasks of each node, and for each of them its GPUs, as JAX_LOCAL_DEVICE_IDS has them."""

    tasks: int
    devices: tuple[str, ...]

    def told(self) -> str:
        """Returns the line of a dry run that says who takes which GPUs; "" without GPUs."""
        if not self.devices:
            return ""
        return f"# with JAX_LOCAL_DEVICE_IDS by its number on the node: {' '.join(self.devices)}\n"


def more(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what --sbatch gives, by its name in sbatch.

    Raises:
      UserError: it is not KEY=VALUE, or a flag of the launcher's own says it.
    """
    given = {}
    for text in options.sbatch:
        key, equals, value = text.partition("=")
        key = key.lstrip("-").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            raise UserError(f"--sbatch={text!r} must be KEY=VALUE or KEY, as sbatch has them")
        if key in FLAGS:
            raise UserError(f"--sbatch={text}: the launcher gives it itself; give {FLAGS[key]}")
        given[key] = value if equals else True
    return given


def minutes(hours: float) -> int:
    """Returns the time limit of a job, in Slurm's unit."""
    return max(1, round(60 * hours))


def layout(options: argparse.Namespace) -> Layout:
    """Returns the tasks of a node and the GPUs of each: by default one task for each GPU.

    Raises:
      UserError: the tasks cannot share the node's GPUs evenly, or two flags count the GPUs.
    """
    given = more(options)
    gpus = options.gpus_per_node
    in_gres = _count_gres(str(given.get("gres", "")))
    if in_gres:
        if gpus is not None:
            raise UserError("give --gpus-per-node or --sbatch=gres=gpu:NUMBER, not both")
        gpus = in_gres
    if "gpus-per-task" in given:
        return _bound(options.tasks_per_node, gpus, _number(str(given["gpus-per-task"])))
    tasks = options.tasks_per_node or gpus or 1
    if not gpus:
        return Layout(tasks, ())
    if gpus % tasks:
        raise UserError(
            f"{tasks} tasks cannot share the {gpus} GPUs of a node evenly: "
            f"--tasks-per-node must divide {gpus}"
        )
    share = gpus // tasks
    return Layout(tasks, tuple(_ids(range(n * share, (n + 1) * share)) for n in range(tasks)))


def _bound(tasks: int | None, gpus: int | None, share: int) -> Layout:
    """Returns the layout where Slurm shows each task its own GPUs alone, numbered from 0."""
    tasks = tasks or max(1, (gpus or share) // share)
    if gpus is not None and tasks * share > gpus:
        raise UserError(
            f"{tasks} tasks with --sbatch=gpus-per-task={share} need {tasks * share} GPUs of a "
            f"node, which has {gpus}"
        )
    return Layout(tasks, (_ids(range(share)),) * tasks)


def _count_gres(text: str) -> int:
    """Returns the GPUs in a list of generic resources, such as gpu:a100:8,tmp:1."""
    parts = [part.removeprefix("gres/").partition("(")[0] for part in text.split(",")]
    return sum(_number(part) for part in parts if re.split("[:=]", part)[0] == "gpu")


def _number(text: str) -> int:
    """Returns the number at the end of KIND:NUMBER, which is 1 if it is not said."""
    last = re.split("[:=]", text)[-1]
    if last.isdecimal() and int(last) < 1:
        raise UserError(f"--sbatch: {text} must be at least one GPU")
    return int(last) if last.isdecimal() else 1


def _ids(numbers: range) -> str:
    return ",".join(map(str, numbers))
