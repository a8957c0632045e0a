"""A tiny network, and a small experiment of every kind: the real code path."""

from pathlib import Path

from pruning import main
from tests import in_process

ARGS = [
    "--config=configs/pruning/digits.py",
    "--config.model.width=0.1",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.fine_tune.steps=40",
    "--config.eval_every=20",
    "--config.prune.compensate=none",
    "--config.branches.scratch_e=false",
    "--config.branches.scratch_b=false",
    "--config.branches.random_units=false",
    "--config.checkpoint.every_seconds=0",
    "--config.checkpoint.poll_steps=20",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]
RANDOM = "--config.branches.random_units=true"
COMPENSATED = "--config.prune.compensate=least_squares"


def run(workdir: Path, *overrides: str, ratio: object = 0.5) -> str:
    return in_process.run(main.STUDY, _argv(workdir, overrides, ratio))


def train(workdir: Path, *overrides: str, ratio: object = 0.5) -> None:
    in_process.train(main.STUDY, _argv(workdir, overrides, ratio))


def _argv(workdir: Path, overrides: tuple[str, ...], ratio: object) -> list[str]:
    return [*ARGS, f"--config.prune.ratio={ratio}", f"--workdir={workdir}", *overrides]
