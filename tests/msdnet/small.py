"""A tiny network with exits, and a small experiment of every kind: the real code path."""

from collections.abc import Sequence
from pathlib import Path

from msdnet import MSDNet, main
from tests import in_process

TINY = {"blocks": 3, "base": 1, "step": 1, "channels": 4, "growth": 2, "head": 8}
SCALES = {"growth_factors": (1, 2), "bottleneck_factors": (1, 2)}

ARGS = [
    "--config=configs/msdnet/digits.py",
    "--config.train.steps=40",
    "--config.train.batch_size=32",
    "--config.eval_every=20",
    "--config.optimizer.drop_steps=(30,)",
    "--config.msdnet.channels=4",
    "--config.msdnet.growth=2",
    "--config.msdnet.head=8",
    "--config.data.pad=0",
    "--config.resnets.blocks=(1,)",
    "--config.resnets.width=0.25",
    "--config.resnet_exits.width=0.25",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]


def model(**options) -> MSDNet:
    """3 exits, 2 scales."""
    return MSDNet(10, **TINY, **SCALES, **options)


def run(workdir: Path, *overrides: str, networks: Sequence[str] = ("msdnet",)) -> str:
    return in_process.run(main.STUDY, _argv(workdir, overrides, networks))


def train(workdir: Path, *overrides: str, networks: Sequence[str] = ("msdnet",)) -> None:
    in_process.train(main.STUDY, _argv(workdir, overrides, networks))


def _argv(workdir: Path, overrides: tuple[str, ...], networks: Sequence[str]) -> list[str]:
    chosen = f"--config.networks={tuple(networks)}"
    return [*ARGS, chosen, f"--workdir={workdir}", *overrides]
