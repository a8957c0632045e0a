"""The architectures that a config can name: built, described, counted and narrowed."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import config as config_lib
from groundwork import named, trees, typed
from groundwork.architectures import own
from groundwork.architectures.models import MODELS
from groundwork.errors import UserError, about, shown, unknown
from groundwork.trees import Shapes, count

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The config's `model` section.

    Attributes:
      name: one of `MODELS`; or `package.module:name` of a user's own, see `own.build`.
      width: multiplies the width of every hidden layer (1.0 = the paper's); of `MODELS` alone.
      dtype: the type in which layers compute, `float32` or `bfloat16`; parameters, optimiser
        state, batch statistics and the loss are float32 under both. For `MODELS` alone.
      kwargs: what a user's own network is built with; or further settings of one of `MODELS`,
        those that its module lists in `settings`, such as `{"groups": 8}` of `shufflenet_v1`.
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
            raise UserError(
                f"{unknown('model', self.name, MODELS)} (all {len(MODELS)} networks are listed in "
                "groundwork/architectures/README.md)"
            )
        else:
            self._check_shipped()
        if self.width <= 0:
            raise UserError(f"model.width={self.width} must be positive (1.0 = the paper's)")

    def _check_shipped(self) -> None:
        if self.call:
            raise UserError(f"model.call is for networks of your own, not for {self.name}")
        known = settings(self.name)
        for key, given in self.kwargs.items():
            if key not in known:
                has = f"has {', '.join(known)}" if known else "has none"
                raise UserError(f"model.kwargs: {self.name} has no setting {key!r}; it {has}")
            typed.value(f"model.kwargs.{key}", given, type(getattr(MODELS[self.name], key)))

    def _check_own(self) -> None:
        own.calls.check(self.call)
        for key, default in (("width", 1.0), ("dtype", "float32")):
            if getattr(self, key) != default:
                raise UserError(
                    f"model.{key}={getattr(self, key)} is for shipped networks: leave "
                    f"{default}, and give {self.name} its own arguments in model.kwargs"
                )


def settings(name: str) -> tuple[str, ...]:
    """Returns what one of `MODELS` can be built with beside classes, width and dtype."""
    return getattr(MODELS[name], "settings", ())


def model_spec(section: Mapping[str, Any]) -> ModelSpec:
    """Returns the spec of a config's section `model`.

    Settings of a shipped network may also stand in the section itself, beside its width.

    Raises:
      UserError: as `build`.
    """
    name = section.get("name") if isinstance(section, Mapping) else None
    if not isinstance(name, str) or name not in MODELS:
        return config_lib.build(ModelSpec, section, "model")
    own_keys = settings(name)
    beside = {key: value for key, value in section.items() if key in own_keys}
    rest = {key: value for key, value in section.items() if key not in own_keys}
    inside = rest.get("kwargs", {})
    if beside and isinstance(inside, Mapping):
        if twice := sorted(beside.keys() & inside.keys()):
            raise UserError(f"model.kwargs: {twice[0]} stands beside it as well: give it once")
        rest["kwargs"] = {**inside, **beside}
    return config_lib.build(ModelSpec, rest, "model")


def build(config: Mapping[str, Any], classes: int) -> Any:
    """Returns the module that a config names, or a user's own network with `init` and `apply`.

    Args:
      config: an experiment's config, or its `model` section, which has the keys of `ModelSpec`;
        settings of a shipped network, such as `groups`, may stand beside them.
      classes: number of outputs.

    Raises:
      UserError: an unknown name, dtype or setting, a width that is not positive or that the family
        has not, or no classes.

    Example:
        >>> from groundwork import architectures
        >>> model = architectures.build({"name": "lenet_300_100", "width": 0.1}, classes=10)
        >>> params = architectures.shapes(model, (784,))["params"]
        >>> {layer: leaves["kernel"].shape for layer, leaves in params.items()}
        {'fc1': (784, 30), 'fc2': (30, 10), 'output': (10, 10)}
    """
    section = config.get("model", config) if isinstance(config, Mapping) else config
    return _built(model_spec(section), classes)


def _built(spec: ModelSpec, classes: int) -> Any:
    if named.is_own(spec.name):
        return own.build(spec.name, spec.kwargs, spec.call, classes)
    if not classes:
        raise UserError(
            f"model.name={spec.name} needs classes as targets: one integer for each example, [N]"
        )
    if not isinstance(classes, int | np.integer) or classes < 0:
        raise UserError(f"classes={shown(classes)} must be a positive integer")
    kwargs = named.as_tuples(spec.kwargs)
    with about("model"):
        return MODELS[spec.name](
            classes=classes, width=spec.width, dtype=DTYPES[spec.dtype], **kwargs
        )


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
    chosen = {key: getattr(module, key) for key in settings(name)}
    if changed := {key: one for key, one in chosen.items() if one != getattr(built, key)}:
        section["kwargs"] = changed
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

    Example:
        >>> from groundwork import architectures
        >>> model = architectures.build({"name": "lenet_300_100"}, classes=10)
        >>> variables = architectures.shapes(model, (784,))
        >>> variables["params"]["fc1"]["kernel"].shape, variables["params"]["fc1"]["bias"].shape
        ((784, 300), (300,))
    """
    example = trees.example(example)
    if isinstance(module, own.Own):
        return own.network.shapes(module, example)
    refusal = f"{type(module).__name__} cannot take examples of shape {_shown(example)}"
    leaves, structure = jax.tree.flatten(example)
    inputs = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    trace = _traced if _is_hashable(module) else _traced.__wrapped__
    try:
        variables = trace(module, structure, inputs)
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise UserError(f"{refusal}: {error}") from error
    if not all(leaf.size for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{refusal}: a layer would have no inputs")
    return jax.tree.map(lambda leaf: leaf, variables)  # dictionaries that nobody else has


@functools.lru_cache(maxsize=256)
def _traced(module: nn.Module, structure: Any, inputs: tuple[Any, ...]) -> Shapes:
    """Returns the shapes; a large network takes a second to trace, and each part of a run asks."""
    leaves = [jax.ShapeDtypeStruct(*one) for one in inputs]
    example = jax.tree.unflatten(structure, leaves)
    return jax.eval_shape(module.init, jax.random.key(0), example)


def _is_hashable(module: nn.Module) -> bool:
    """Returns whether a module can be compared; one with attributes such as lists cannot."""
    try:
        hash(module)
    except TypeError:
        return False
    return True


def narrowed(
    config: Mapping[str, Any], classes: int, shape: Any, parameters: int
) -> dict[str, Any]:
    """Returns the `model` section of the widest network of the same family within `parameters`.

    One multiplier, found by bisection, scales every hidden layer; of a family that has certain
    widths alone, it is one of them. The network has at most `parameters` entries in `params`,
    unless even the narrowest has more.
    """
    section = dict(config.get("model", config))

    def size(width: float) -> int:
        return count(shapes(build({**section, "width": width}, classes), shape)["params"])

    low, high = 1e-6, float(section["width"])
    if size(high) <= parameters:
        return section
    if widths := getattr(MODELS[section["name"]], "widths", ()):
        fitting = [width for width in widths if width <= high and size(width) <= parameters]
        return {**section, "width": max(fitting, default=min(widths))}
    for _ in range(26):  # far finer than one unit, and hidden widths are integers
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= parameters else (low, middle)
    return {**section, "width": low}


def _shown(example: Shapes) -> str:
    """Returns the shapes of one example, without the axis of the batch."""
    return str(jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), example))
