"""How a user's network is called: what its signature tells, and what the config says instead."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from groundwork import named
from groundwork.errors import UserError

# The usual names of the argument that tells training from evaluation → its value in training.
FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
MODES = ("train", "eval")


@dataclasses.dataclass(frozen=True)
class Call:
    """What a network is called with besides its inputs.

    Attributes:
      names: of its parameters.
      train: keywords in training.
      eval: keywords in evaluation.
    """

    names: tuple[str, ...]
    train: Mapping[str, Any]
    eval: Mapping[str, Any]

    def arguments(self, inputs: Any, train: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns positional and keyword arguments for a batch of inputs.

        A tuple of arrays becomes as many arguments. A dictionary becomes keywords if all its keys
        are names of parameters. Anything else is one argument.
        """
        flags = dict(self.train if train else self.eval)
        if type(inputs) is tuple:
            return inputs, flags
        if isinstance(inputs, Mapping) and set(inputs) <= set(self.names):
            return (), {**inputs, **flags}
        return (inputs,), flags


def found(function: Callable[..., Any], call: Mapping[str, Any]) -> Call:
    """Returns how a function is called.

    Args:
      function: the network's `__call__` or `apply`. Its parameters of the names in `FLAGS` tell
        training from evaluation.
      call: the config's `model.call`: keywords `{"train": {…}, "eval": {…}}`, which come on top.
    """
    names = tuple(named.parameters(function))
    flags = {name: value for name, value in FLAGS.items() if name in names}
    opposite = {name: not value for name, value in flags.items()}
    return Call(names, {**flags, **call.get("train", {})}, {**opposite, **call.get("eval", {})})


def check(call: Any) -> None:
    """Refuses a `model.call` of another form.

    Raises:
      UserError: it is not `{"train": {…}, "eval": {…}}`, or has one of both alone.
    """
    shown = "{'train': {'dropout': True}, 'eval': {'dropout': False}}"
    fits = isinstance(call, Mapping) and set(call) in (set(), set(MODES))
    if not fits or not all(isinstance(call[mode], Mapping) for mode in call):
        raise UserError(
            f"model.call={call!r} must be keywords in training and in evaluation: {shown}"
        )
