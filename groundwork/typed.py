"""Values of a config against the annotations of the fields that take them. Read `value` first."""

import functools
import math
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from groundwork.errors import UserError, shown, unknown

DEEPEST = 32  # levels of a value; `jsons` reads twice as many
MOST = 10**300  # integers of a key that takes anything, as JSON is read everywhere
BELOW = 2**31  # integers: steps, sizes and counts end as 32 bits on the device
Seed = Annotated[int, 2**32]
Levels = Annotated[int, 10**6]  # each is a folder of the run
Unbounded = Annotated[float, math.inf]  # a number that may be infinite
WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a text",
}
MANY = {bool: "truths", int: "integers", float: "numbers", str: "texts"}
EXAMPLES = {bool: "(True,)", int: "(1, 2)", float: "(0.5, 0.25)", str: "('a', 'b')"}


@functools.cache
def fields(kind: Any) -> dict[str, Any]:
    """Returns the annotations of a class by name, resolved and with what `Annotated` adds.

    Those of the class itself, `ClassVar`, are no fields.
    """
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def value(key: str, given: Any, kind: Any) -> Any:
    """Returns a value as its annotation has it: tuples for lists, floats for integers.

    A truth is no number and a text is none. Numbers are finite, and integers below 2³¹.
    `Annotated` changes that: a number is the limit instead, a text says what would be right.

    Args:
      key: of the config, for errors.
      given: the value.
      kind: of `bool`, `int`, `float`, `str`, `Literal`, `tuple[T, ...]`, `Mapping[str, T]`, their
        unions, and `Any`, which is all that `plain` takes.

    Raises:
      UserError: the value does not fit; the error names the key, and says what would be right.
    """
    return _checked(key, plain(key, given), kind, None)


def plain(key: str, given: Any, levels: int = DEEPEST) -> Any:
    """Returns a value in Python's own types, as JSON can keep it; NumPy's become such.

    Raises:
      UserError: it has something else in it, such as an object, or a number that is not one; or it
        is nested in more than so many `levels`.
    """
    if not levels:
        raise UserError(f"{key[:80]} is nested in more than {DEEPEST} levels: make it flatter")
    if isinstance(given, np.ndarray | np.generic) and given.dtype.kind in "biufU":
        given = given.tolist()
    if isinstance(given, Mapping):
        for name in given:
            if not isinstance(name, str):
                raise UserError(f"{key}: its key {shown(name)} must be a text, such as 'fc1'")
        return {_text(key, k): plain(f"{key}.{k}", inner, levels - 1) for k, inner in given.items()}
    if isinstance(given, list | tuple):
        parts = [plain(key, inner, levels - 1) for inner in given]
        return tuple(parts) if isinstance(given, tuple) else parts
    if isinstance(given, str):
        return _text(key, given)
    if type(given) is int and abs(given) >= MOST:
        raise UserError(f"{key}={shown(given)} must be less than 1e300")
    if given is None or type(given) in (bool, int, float):
        return given
    raise UserError(
        f"{key}={shown(given)} must be a number, a text, a truth, or a list or mapping of such: it "
        f"is a {type(given).__name__}"
    )


def _checked(key: str, given: Any, kind: Any, words: str | None) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        base, limit = get_args(kind)
        if isinstance(limit, str):
            return _checked(key, given, base, limit)
        return _number(key, given, base, limit, words)
    if kind in (int, float):
        return _number(key, given, kind, BELOW if kind is int else None, words)
    if kind in (bool, str, types.NoneType):
        return given if isinstance(given, kind) else _refuse(key, given, kind, words)
    if origin is Literal:
        if type(given) is not str or given not in get_args(kind):
            raise unknown(key, given, get_args(kind))
        return given
    if origin is tuple:
        if not isinstance(given, list | tuple):
            return _refuse(key, given, kind, words)
        return _each(key, given, kind, words or _words(kind))
    if origin in (Union, types.UnionType):
        return _one_of(key, given, kind, words)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(given, Mapping):
            return _refuse(key, given, kind, words)
        inner = get_args(kind)[1]
        return {k: _checked(f"{key}[{k!r}]", v, inner, words) for k, v in given.items()}
    if _has_nan(given):
        raise UserError(f"{key}={shown(given)} has a NaN, which equals nothing: give a number")
    return given  # anything


def _has_nan(given: Any) -> bool:
    parts = given.values() if isinstance(given, Mapping) else given
    if isinstance(parts, str) or not isinstance(given, Mapping | list | tuple):
        return given != given
    return any(map(_has_nan, parts))


def _number(key: str, given: Any, kind: Any, limit: Any, words: str | None) -> Any:
    """Returns an integer below a limit, or a float, which is infinite where that is the limit."""
    taken = (int,) if kind is int else (int, float)
    if type(given) not in taken:
        return _refuse(key, given, kind, words)
    if kind is int:
        if limit is not None and not -limit < given < limit:
            power = {BELOW: "2**31", 2**32: "2**32"}.get(limit, limit)
            bound = f"less than {power}" if given > 0 else f"more than -{power}"
            raise UserError(f"{key}={shown(given)} must be {bound}")
        return given
    if isinstance(given, int) and abs(given) >= 2**1023:
        raise UserError(f"{key}={shown(given)} must be {words or 'a number below 1e308'}")
    if math.isnan(given) or (math.isinf(given) and limit != math.inf):
        raise UserError(f"{key}={given} must be {words or 'a finite number'}")
    return float(given)


def _each(key: str, given: Any, kind: Any, words: str) -> tuple[Any, ...]:
    """Returns the parts of a sequence, each as the annotation has it; an error shows them all."""
    inner, parts = get_args(kind)[0], []
    for part in given:
        try:
            parts.append(_checked(key, part, inner, None))
        except UserError as error:
            if _fits_loosely(part, inner):  # a number, say, that is too large
                raise
            raise UserError(f"{key}={shown(given)} must be {words}") from error
    return tuple(parts)


def _fits_loosely(part: Any, kind: Any) -> bool:
    numbers = get_origin(kind) is not Annotated and kind in (int, float)
    return numbers and type(part) in (int, float) and (kind is float or type(part) is int)


def _one_of(key: str, given: Any, kind: Any, words: str | None) -> Any:
    """Returns what the first kind of a union gives that takes the value."""
    for member in get_args(kind):
        try:
            return _checked(key, given, member, words)
        except UserError:
            if isinstance(given, Mapping) and get_origin(member) not in (None, tuple):
                raise  # it names the part that is wrong
    return _refuse(key, given, kind, words)


def _refuse(key: str, given: Any, kind: Any, words: str | None) -> Any:
    raise UserError(f"{key}={shown(given)} must be {words or _words(kind)}")


def _words(kind: Any) -> str:
    """Returns what an annotation asks for, in words."""
    origin = get_origin(kind)
    if origin is Annotated:
        base, added = get_args(kind)
        return added if isinstance(added, str) else _words(base)
    if origin is tuple:
        inner = get_args(kind)[0]
        if inner in MANY:
            return f"{MANY[inner]}, such as {EXAMPLES[inner]}"
        if get_origin(inner) is tuple:
            return "a sequence of sequences, such as (('a', 'b'),)"
        return f"a sequence, each of it {_words(inner)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(member) for member in get_args(kind))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping of names to values, such as {'a': 1}"
    return WORDS.get(kind, "None")


def _text(key: str, given: str) -> str:
    """Returns a text that files can keep."""
    if "\0" in given or any("\ud800" <= c <= "\udfff" for c in given):
        raise UserError(f"{key}={shown(given)} must be a text without NUL and lone surrogates")
    return str(given)
