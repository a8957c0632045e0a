"""The loss that a config names: one of `losses.LOSSES`, or a user's own. Read `build` first."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from groundwork import named, typed
from groundwork.errors import UserError, unknown
from groundwork.train.losses import LOSSES, Loss, of_examples


@dataclasses.dataclass(frozen=True)
class LossSpec:
    """The config's `loss` and `loss_kwargs`.

    Attributes:
      name: one of `LOSSES`, or `package.module:name` of a user's own; see `build`.
      kwargs: its settings, such as `{"label_smoothing": 0.1}`.
    """

    name: str = "cross_entropy"
    kwargs: Annotated[Mapping[str, Any], "settings, such as {'label_smoothing': 0.1}"] = (
        dataclasses.field(default_factory=dict)
    )

    def __post_init__(self) -> None:
        if not named.is_own(self.name) and self.name not in LOSSES:
            raise unknown("loss", self.name, LOSSES)


def from_config(config: Mapping[str, Any]) -> LossSpec:
    """Returns the loss that a config names; one without the keys has the cross-entropy.

    Raises:
      UserError: there is no such loss, or its settings are no mapping.
    """
    kinds = typed.fields(LossSpec)
    name = typed.value("loss", config.get("loss", "cross_entropy"), kinds["name"])
    return LossSpec(
        name, typed.value("loss_kwargs", config.get("loss_kwargs", {}), kinds["kwargs"])
    )


def build(spec: LossSpec, targets: Any) -> Loss:
    """Returns the loss of a config.

    A user's own name is that of a `Loss`; of a function (outputs, targets, **loss_kwargs) → the
    losses of the examples, [B]; or of a function of `loss_kwargs` alone that returns either.

    Args:
      spec: of the config.
      targets: a tree of arrays or shapes [N, …]: those of [N, L] integers are tokens.

    Raises:
      UserError: the settings do not fit, or the name is that of something else.
    """
    if not named.is_own(spec.name):
        tokens = spec.name == "cross_entropy" and len(getattr(targets, "shape", ())) > 1
        more = {"tokens": True} if tokens else {}
        return named.call("loss_kwargs", LOSSES[spec.name], spec.kwargs, **more)
    found = named.load("loss", spec.name)
    if isinstance(found, Loss) and not spec.kwargs:
        return found
    if not callable(found):
        raise UserError(
            f"loss={spec.name} is neither a Loss without settings nor a function: {found!r}"
        )
    if len(set(named.required(found)) - set(spec.kwargs)) >= 2:
        kwargs = named.as_tuples(spec.kwargs)
        return of_examples(lambda outputs, targets: found(outputs, targets, **kwargs), spec.name)
    made = named.call("loss_kwargs", found, spec.kwargs)
    if isinstance(made, Loss):
        return made
    if callable(made):
        return of_examples(made, spec.name)
    raise UserError(f"loss={spec.name} returns neither a Loss nor a function of outputs, targets")
