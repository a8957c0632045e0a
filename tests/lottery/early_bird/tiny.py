"""A tiny network with BatchNorm, and a small experiment: the real code path."""

from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp

from groundwork.architectures import layers
from lottery.early_bird import main
from tests import in_process

ARGS = [
    "--config=configs/lottery/early_bird_digits.py",
    "--config.model.name=tests.lottery.early_bird.tiny:Net",
    "--config.model.width=1.0",
    "--config.train.steps=20",
    "--config.train.batch_size=50",
    "--config.fine_tune.batch_size=50",
    "--config.optimizer.learning_rate=1.2e-3",
    "--config.early_bird.ratio=0.5",
    "--config.early_bird.every=5",
    "--config.early_bird.patience=2",
    "--config.early_bird.threshold=0.9",
    "--config.early_bird.penalty=0.01",
    "--config.fine_tune.steps=4",
    "--config.eval_every=4",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]
ALONE = tuple(f"--config.controls.{name}=false" for name in ("reinit", "random", "late"))


class Net(nn.Module):
    """Two dense layers with BatchNorm, and the output's."""

    classes: int

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape(len(inputs), -1)
        for number, units in enumerate((12, 8), 1):
            x = nn.Dense(units, use_bias=False, name=f"fc{number}")(x)
            x = nn.relu(layers.batch_norm(f"bn{number}", train, jnp.float32)(x))
        return nn.Dense(self.classes, name="output")(x)


def run(workdir: Path, *overrides: str) -> str:
    return in_process.run(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def train(workdir: Path, *overrides: str) -> None:
    in_process.train(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])
