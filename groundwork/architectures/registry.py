"""The architectures that a config can name: built, described, counted and narrowed."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import config as config_lib
from groundwork.architectures.compact.student_net import StudentNet
from groundwork.architectures.lenet import LeNet5, LeNet300100
from groundwork.architectures.mlp import ResidualMLP
from groundwork.architectures.plain_conv import Conv2, Conv4, Conv6
from groundwork.architectures.resnet import ResNet20, ResNet32, ResNet56
from groundwork.architectures.vgg import VGG11, VGG13, VGG16, VGG19
from groundwork.errors import UserError, unknown
from groundwork.trees import Shapes, count

MODELS: dict[str, Callable[..., nn.Module]] = {
    "conv_2": Conv2,
    "conv_4": Conv4,
    "conv_6": Conv6,
    "lenet_300_100": LeNet300100,
    "lenet_5": LeNet5,
    "residual_mlp": ResidualMLP,
    "resnet_20": ResNet20,
    "resnet_32": ResNet32,
    "resnet_56": ResNet56,
    "student_net": StudentNet,
    "vgg_11": VGG11,
    "vgg_13": VGG13,
    "vgg_16": VGG16,
    "vgg_19": VGG19,
}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The config's `model` section.

    Attributes:
      name: one of `MODELS`.
      width: multiplies the width of every hidden layer (1.0 = the paper's).
      dtype: the type in which layers compute, `float32` or `bfloat16`; parameters, optimiser
        state, batch statistics and the loss are float32 under both.
    """

    name: str
    width: float = 1.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("model.dtype", self.dtype, DTYPES)
        if self.name not in MODELS:
            raise unknown("model", self.name, MODELS)
        if not 0 < self.width < math.inf:
            raise UserError(f"model.width={self.width} must be positive (1.0 = the paper's)")


def build(config: Mapping[str, Any], classes: int) -> nn.Module:
    """Returns the module that a config names.

    Args:
      config: an experiment's config, or its `model` section, which has the keys of `ModelSpec`.
      classes: number of outputs.

    Raises:
      UserError: an unknown name or dtype, or a width that is not positive.
    """
    spec = config_lib.build(ModelSpec, config.get("model", config), "model")
    return MODELS[spec.name](classes=classes, width=spec.width, dtype=DTYPES[spec.dtype])


def described(module: nn.Module) -> tuple[dict[str, Any], int] | None:
    """Returns the `model` section and the number of classes from which `build` makes the module.

    None if no section describes it.
    """
    name = next((name for name, kind in MODELS.items() if type(module) is kind), None)
    if name is None:
        return None
    dtype = jnp.dtype(getattr(module, "dtype", None) or jnp.float32).name
    if dtype not in DTYPES:
        return None
    section = {"name": name, "width": float(getattr(module, "width", 1.0)), "dtype": dtype}
    classes = int(getattr(module, "classes", 0))
    built = build(section, classes)
    attributes = {field.name for field in dataclasses.fields(built)} - {"dtype", "name", "parent"}
    differing = any(getattr(module, key) != getattr(built, key) for key in attributes)
    return None if differing else (section, classes)


def shapes(module: nn.Module, shape: tuple[int, ...]) -> Shapes:
    """Returns shapes and dtypes of a module's variables for examples of `shape`.

    Nothing is computed.

    Raises:
      UserError: the module cannot take such examples.
    """
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    refusal = f"{type(module).__name__} cannot take examples of shape {shape}"
    try:
        variables = jax.eval_shape(module.init, jax.random.key(0), example)
    except (ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        raise UserError(f"{refusal}: {error}") from error
    if not all(leaf.size for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{refusal}: a layer would have no inputs")
    return variables


def narrowed(
    config: Mapping[str, Any], classes: int, shape: tuple[int, ...], parameters: int
) -> dict[str, Any]:
    """Returns the `model` section of the widest network of the same family within `parameters`.

    One multiplier, found by bisection, scales every hidden layer. The network has at most
    `parameters` entries in `params`, unless even one unit per layer makes more.
    """
    section = dict(config.get("model", config))

    def size(width: float) -> int:
        return count(shapes(build({**section, "width": width}, classes), shape)["params"])

    low, high = 1e-6, float(section["width"])
    if size(high) <= parameters:
        return section
    for _ in range(26):  # far finer than one unit, and hidden widths are integers
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= parameters else (low, middle)
    return {**section, "width": low}
