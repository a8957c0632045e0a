"""A package of a user's own, written to a folder and importable from there."""

import sys
from pathlib import Path

NETS = '''
import flax.linen as nn
import jax
from flax import nnx


class Regression(nn.Module):
    """As its author calls it: deterministic or not, with dropout."""

    width: int = 12

    @nn.compact
    def __call__(self, x, deterministic):
        x = nn.relu(nn.Dense(self.width, name="hidden")(x))
        x = nn.Dropout(0.1, deterministic=deterministic)(x)
        return nn.Dense(2, name="output")(x)


class Tokens(nn.Module):
    """A language model: [B, L] integers → [B, L, C]."""

    vocabulary: int

    @nn.compact
    def __call__(self, tokens, training=False):
        x = nn.relu(nn.Dense(16, name="mix")(nn.Embed(self.vocabulary, 8, name="embed")(tokens)))
        return nn.Dense(self.vocabulary, name="output")(x)


class Convolutional(nnx.Module):
    """With batch statistics, dropout, and layers in a list."""

    def __init__(self, num_classes, width=4, axis=None, *, rngs):
        self.conv = nnx.Conv(1, width, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, axis_name=axis, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(width, 8, rngs=rngs)])
        self.layers.append(nnx.Linear(8, num_classes, rngs=rngs))

    def __call__(self, images):
        x = nnx.relu(self.norm(self.conv(images))).mean((1, 2))
        return self.layers[1](nnx.relu(self.layers[0](self.dropout(x))))


class Two(nn.Module):
    """Two inputs, and a flag of an unusual name."""

    @nn.compact
    def __call__(self, left, right, noisy):
        x = nn.Dense(3)(left) + nn.Embed(5, 3)(right)
        return nn.Dropout(0.5, deterministic=not noisy)(x)


def make(classes, width):
    return Regression(width * classes)


def sized(sizes):
    return Regression(*sizes)


def init(key, x):
    return {"w": jax.random.normal(key, (x.shape[-1], 3))}


def apply(params, x):
    return x @ params["w"]


pair = (init, apply)
ready = Regression(5)
'''
DATA = """
import numpy as np


def regression(train=120):
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(5, 2))

    def split(count):
        inputs = rng.normal(size=(count, 5))
        return inputs, inputs @ slope

    return {"train": split(train), "test": split(30), "validation": split(20)}


def tokens(length=6, vocabulary=7):
    rng = np.random.default_rng(0)

    def split(count):
        tokens = rng.integers(0, vocabulary, (count, length))
        targets = (tokens + 1) % vocabulary
        targets[:, length - 2:] = -1  # padding
        targets[0] = -1
        return tokens, targets

    return {"train": split(100), "test": split(30)}
"""
LOSSES = """
import jax.numpy as jnp


def absolute(outputs, targets, power=1):
    return (jnp.abs(outputs - targets) ** power).sum(-1)
"""
MODULES = {"nets": NETS, "data": DATA, "losses": LOSSES}


def write(folder: Path, monkeypatch, name: str = "theirs", **modules: str) -> None:
    """Writes the package, with other texts for some of its modules, and forgets an earlier one."""
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    for module, text in {**MODULES, **modules}.items():
        (package / f"{module}.py").write_text(text)
    for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[loaded]
    # Files of equal size that are written in the same second would have the same bytecode.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(folder)
