"""An equation with the values that it is given, and what equations without a rule leave behind."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from deploy.graphs.constants import name_of
from deploy.graphs.draft import REFUSED, Draft


class Step(NamedTuple):
    """An equation of a jaxpr, and the names of its inputs in the draft."""

    equation: Any
    inputs: Sequence[str]

    @property
    def name(self) -> str:
        """Of its primitive."""
        return self.equation.primitive.name

    @property
    def params(self) -> Any:
        """Of its primitive."""
        return self.equation.params

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its first output."""
        return tuple(self.equation.outvars[0].aval.shape)

    @property
    def dtype(self) -> str:
        """Of its first output."""
        return name_of(self.equation.outvars[0].aval.dtype)


Lowering = Callable[[Draft, Step], str | list[str]]
"""(draft, step) → the names of the outputs, for which it adds nodes."""


def refused(draft: Draft, step: Step, why: str = "") -> list[str]:
    """Returns names for the outputs of an equation that has no rule.

    Args:
      draft: is changed.
      step: the equation.
      why: what of it is the reason, if other equations of its kind have a rule.
    """
    layer = draft.layer(step.inputs)
    of = f" of {layer!r}" if layer else ""
    said = f"no rule for {step.name}{of}{f': {why}' if why else ''}"
    return [
        draft.add(REFUSED, step.inputs, v.aval.shape, _dtype(v), layer, why=said)
        for v in step.equation.outvars
    ]


def _dtype(variable: Any) -> str:
    try:
        return name_of(variable.aval.dtype)
    except TypeError:  # keys of random numbers have dtypes that numpy has not
        return "opaque"
