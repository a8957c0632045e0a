"""A tiny network, and a small experiment of every kind: the real code path."""

from pathlib import Path

from lowrank import main
from tests import in_process

BOTH = ("svd", "svd_outputs")
SCRATCH = "--config.decompose.scratch=true"
ARGS = [
    "--config=configs/lowrank/digits.py",
    "--config.model.width=0.2",
    "--config.replicates=2",
    "--config.train.steps=120",
    "--config.fine_tune.steps=40",
    "--config.eval_every=20",
    "--config.decompose.keep_slow=true",
    "--config.checkpoint.poll_steps=20",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]


def run(workdir: Path, *overrides: str, **swept: object) -> str:
    return in_process.run(main.STUDY, _argv(workdir, overrides, **swept))


def train(workdir: Path, *overrides: str, **swept: object) -> None:
    in_process.train(main.STUDY, _argv(workdir, overrides, **swept))


def _argv(
    workdir: Path,
    overrides: tuple[str, ...],
    methods: object = ("svd",),
    shares: object = (0.5,),
    predict: object = (),
) -> list[str]:
    swept = [f"--config.decompose.methods={methods}", f"--config.decompose.shares={shares}"]
    swept += [f"--config.predict={predict}"]
    return [*ARGS, *swept, f"--workdir={workdir}", *overrides]
