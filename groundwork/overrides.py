"""Single keys of a config that the command line overrides. Read `apply` first."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from groundwork.errors import UserError, short

Keys = dict[str, tuple[str, ...]]  # "train.steps" → ("train", "steps")
TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def keys(config: ConfigDict, path: tuple[str, ...] = ()) -> Keys:
    """Returns all keys of a config, sections among them, in its order."""
    found: Keys = {}
    for key in config.keys():  # noqa: SIM118 it iterates over no values, which may be open
        place = (*path, str(key))
        found[".".join(place)] = place
        value = get(config, [key])
        if isinstance(value, ConfigDict):
            found |= keys(value, place)
    return found


def get(config: ConfigDict, path: Sequence[str]) -> Any:
    """Returns the value at a path; None if the config requires one that is not given yet.

    A key may have the name of a method, such as `values`.
    """
    try:
        for part in path:
            config = config[part]
    except RequiredValueError:
        return None
    return config


def apply(config: ConfigDict, given: Mapping[str, str | None]) -> None:
    """Sets keys of a config to what was typed; the type of the value before says how it is read.

    Args:
      config: which is changed.
      given: key → its text; None = the key stands alone, which turns a truth on.

    Raises:
      UserError: a text does not fit its key, or a section comes after one of its keys.
    """
    paths = keys(config)
    _check_order(list(given))
    for name, text in given.items():
        *section, key = paths[name]
        try:  # an earlier text may have replaced the section
            holder = get(config, section)
            kind = _kind(holder, key)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"cannot read the command line: --config.{name} is no key of what "
                f"--config.{'.'.join(section)} was set to"
            ) from error
        shown_as = f"--config.{name}" + ("" if text is None else f"={short(text, 80)}")
        try:
            value = _read(text, kind)
            with holder.ignore_type():  # `typed` refuses what is still wrong
                holder[key] = value
        except ValueError as error:  # a ConfigDict takes no dots in the keys of a mapping
            raise UserError(f"cannot read the command line: {shown_as} {error}") from error


def _kind(holder: ConfigDict, key: str) -> type:
    try:
        return holder.get_type(key)
    except RequiredValueError:
        return holder.get_ref(key).get_type()


def _read(text: str | None, kind: type) -> Any:
    """Returns a typed value as a kind.

    Raises:
      ValueError: the text says no such value; the message says what would be right.
    """
    if text is None:
        if kind is bool:
            return True
        raise ValueError("has no value: write --config.KEY=VALUE")
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise ValueError("must be true or false")
        return TRUTHS[text.lower()]
    if kind in (int, float):
        return _number(text, kind)
    if kind is tuple:
        return _sequence(text)
    value = _literal(text)
    if issubclass(kind, ConfigDict):
        if not isinstance(value, dict):
            raise ValueError("must be a mapping, since it is a section: set a key of it")
        return ConfigDict(value)
    return value


def _number(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except (ValueError, OverflowError) as error:
        words = "an integer" if kind is int else "a number"
        raise ValueError(f"must be {words}") from error


def _sequence(text: str) -> Any:
    """Returns a tuple: of what is a tuple or list, or of one part, which needs no quotes."""
    value = _literal(text)
    if isinstance(value, str) and value == text and text[:1] in ("(", "["):
        raise ValueError("must be a sequence, such as (1, 2): is a bracket or a quote missing?")
    if isinstance(value, str) and value == text and ("," in text or " " in text):
        raise ValueError("must be a sequence with quotes around texts, such as ('a', 'b')")
    if isinstance(value, dict | set):
        raise ValueError("must be a sequence, such as (1, 2)")
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _literal(text: str) -> Any:
    """Returns the Python value that a text spells, or else the text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text


def _check_order(names: Sequence[str]) -> None:
    """Refuses a section after a key of it, whose value it would replace."""
    for place, name in enumerate(names):
        for later in names[place + 1 :]:
            if name.startswith(f"{later}."):
                raise UserError(
                    f"cannot read the command line: --config.{later} is provided after "
                    f"--config.{name}, whose value it would replace: give it first"
                )
