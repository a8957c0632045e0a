"""Flax modules, a file a family. `build` turns a config's `model` section into one.

Every module is called as `module.apply(variables, inputs, train=False)` with inputs
[B, …] float32 and gives logits [B, classes].
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from architectures.lenet import LeNet5, LeNet300100
from architectures.mlp import ResidualMLP
from experiment.errors import UserError, unknown

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet_300_100": LeNet300100,
    "lenet_5": LeNet5,
    "residual_mlp": ResidualMLP,
}


def build(config: Mapping[str, Any], classes: int) -> nn.Module:
    """The module that a config names.

    Args:
      config: an experiment's config or its `model` section: `name`, one of `MODELS`, and
        `width`, which multiplies the width of every hidden layer (1.0 = the paper's).
      classes: number of outputs.

    Raises:
      UserError: an unknown name, or a width that is not positive.
    """
    section = config.get("model", config)
    if section["name"] not in MODELS:
        raise unknown("model", section["name"], MODELS)
    if section["width"] <= 0:
        raise UserError(f"model.width={section['width']} must be positive (1.0 = the paper's)")
    return MODELS[section["name"]](classes=classes, width=section["width"])


def shapes(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """Shapes and dtypes of a module's variables for examples of `shape`; computes nothing."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), example)


def count(tree: Any) -> int:
    """Number of entries in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def narrowed(
    config: Mapping[str, Any], classes: int, shape: tuple[int, ...], parameters: int
) -> dict[str, Any]:
    """The `model` section of the widest network of the same family within `parameters`.

    One multiplier scales every hidden layer, found by bisection; the result has at most
    `parameters` entries in `params`, unless even a width of one unit a layer has more.
    """
    section = dict(config.get("model", config))

    def size(width: float) -> int:
        return count(shapes(build({**section, "width": width}, classes), shape)["params"])

    low, high = 1e-6, float(section["width"])
    if size(high) <= parameters:
        return section
    for _ in range(40):  # hidden widths are integers: far finer than one unit
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= parameters else (low, middle)
    return {**section, "width": low}
