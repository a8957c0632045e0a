"""The architectures that a config can name: built, described, counted and narrowed."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import config as config_lib
from groundwork import named, trees
from groundwork.architectures import own
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
      name: one of `MODELS`; or `package.module:name` of a user's own, see `own.build`.
      width: multiplies the width of every hidden layer (1.0 = the paper's); of `MODELS` alone.
      dtype: the type in which layers compute, `float32` or `bfloat16`; parameters, optimiser
        state, batch statistics and the loss are float32 under both. For `MODELS` alone.
      kwargs: what a user's own network is built with.
      call: how a user's own network is called, see `own.calls.found`.
    """

    name: str
    width: float = 1.0
    dtype: str = "float32"
    kwargs: Annotated[Mapping[str, Any], "arguments, such as {'width': 64}"] = dataclasses.field(
        default_factory=dict
    )
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("model.dtype", self.dtype, DTYPES)
        if named.is_own(self.name):
            self._check_own()
        elif self.name not in MODELS:
            raise unknown("model", self.name, MODELS)
        elif self.kwargs or self.call:
            raise UserError(
                f"model.kwargs and model.call are for networks of your own, not for {self.name}"
            )
        if self.width <= 0:
            raise UserError(f"model.width={self.width} must be positive (1.0 = the paper's)")

    def _check_own(self) -> None:
        own.calls.check(self.call)
        for key, default in (("width", 1.0), ("dtype", "float32")):
            if getattr(self, key) != default:
                raise UserError(
                    f"model.{key}={getattr(self, key)} is for shipped networks: give {self.name} "
                    "its own arguments in model.kwargs"
                )


def build(config: Mapping[str, Any], classes: int) -> Any:
    """Returns the module that a config names, or a user's own network with `init` and `apply`.

    Args:
      config: an experiment's config, or its `model` section, which has the keys of `ModelSpec`.
      classes: number of outputs.

    Raises:
      UserError: an unknown name or dtype, a width that is not positive, or no classes.
    """
    spec = config_lib.build(ModelSpec, config.get("model", config), "model")
    if named.is_own(spec.name):
        return own.build(spec.name, spec.kwargs, spec.call, classes)
    if not classes:
        raise UserError(
            f"model.name={spec.name} needs classes as targets: one integer for each example, [N]"
        )
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


def section(module: Any) -> dict[str, Any] | None:
    """Returns the `model` section of a config from which `build` makes this network, if any does.

    Other than `described`, it knows users' own networks, whose code a file must never run.
    """
    if isinstance(module, own.Own):
        return dict(module.section)
    found = described(module)
    return found[0] if found else None


def shapes(module: Any, example: Any) -> Shapes:
    """Returns shapes and dtypes of a network's variables.

    Nothing is computed.

    Args:
      module: of a config.
      example: the shape of one example of floats, or a tree of the inputs' shapes [1, …].

    Raises:
      UserError: the module cannot take such examples.
    """
    example = trees.example(example)
    if isinstance(module, own.Own):
        return own.network.shapes(module, example)
    refusal = f"{type(module).__name__} cannot take examples of shape {_shown(example)}"
    try:
        variables = jax.eval_shape(module.init, jax.random.key(0), example)
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise UserError(f"{refusal}: {error}") from error
    if not all(leaf.size for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{refusal}: a layer would have no inputs")
    return variables


def narrowed(
    config: Mapping[str, Any], classes: int, shape: Any, parameters: int
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


def _shown(example: Shapes) -> str:
    """Returns the shapes of one example, without the axis of the batch."""
    return str(jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), example))
