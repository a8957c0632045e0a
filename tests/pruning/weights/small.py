"""A tiny network and small experiments over its single weights: the real code path."""

from pathlib import Path

from pruning import main
from tests import in_process

ARGS = [
    "--config=configs/pruning/weights.py",
    "--config.model.width=0.1",
    "--config.replicates=2",
    "--config.train.steps=40",
    "--config.optimizer.learning_rate=1e-2",
    "--config.fine_tune_optimizer.learning_rate=1e-2",
    "--config.fine_tune.steps=20",
    "--config.eval_every=20",
    "--config.prune.density=0.1",
    "--config.prune.every=5",
    "--config.checkpoint.every_seconds=0",
    "--config.checkpoint.poll_steps=5",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]


def run(workdir: Path, **prune: object) -> str:
    return in_process.run(main.STUDY, argv(workdir, **prune))


def train(workdir: Path, *more: str, **prune: object) -> None:
    in_process.train(main.STUDY, [*argv(workdir, **prune), *more])


def argv(workdir: Path, **prune: object) -> list[str]:
    flags = [f"--config.prune.{key}={value}" for key, value in prune.items()]
    return [*ARGS, f"--workdir={workdir}", *flags]
