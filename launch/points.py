"""The points of a sweep: the overrides of each, its name, its arguments."""

import hashlib
import itertools
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from groundwork import small_files
from groundwork.errors import UserError, short

CLOSING = {"(": ")", "[": "]", "{": "}"}
UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
MOST_POINTS = 10_000
MOST_BYTES = 2**24  # of a file of points
LONGEST = 180  # the most characters of a name; file systems allow 255


class Point(NamedTuple):
    """One run of a sweep."""

    name: str
    overrides: dict[str, str]  # key of the config → value, as typed

    def arguments(self) -> list[str]:
        """Returns the overrides as flags of a main."""
        return [f"--config.{key}={value}" for key, value in self.overrides.items()]


def make(grid: Sequence[str], file: Path | None) -> list[Point]:
    """Returns every line of `file` with every combination of the `KEY=VALUE,VALUE…` of `grid`.

    Raises:
      UserError: nothing to vary, a key twice in a point, the same point twice, unreadable text,
        or more points than anybody looks at.
    """
    axes = [_axis(text) for text in grid]
    lines = _lines(file) if file else [[]]
    if not axes and not file:
        raise UserError("nothing to vary: give --set KEY=VALUE,VALUE or --points FILE")
    count = len(lines) * math.prod(map(len, axes))
    if count > MOST_POINTS:
        raise UserError(f"there would be {count:,} points, and may be {MOST_POINTS:,}")
    points = [_point([*line, *chosen]) for line in lines for chosen in itertools.product(*axes)]
    seen: set[str] = set()
    for point in points:
        if point.name in seen:
            raise UserError(f"the point {point.name} is there twice")
        seen.add(point.name)
    return points


def values(text: str) -> list[str]:
    """Returns the values that commas separate; commas in brackets or quotes belong to a value.

    A value in quotes is returned without them.
    """
    parts, start, inside, quote = [], 0, [], ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in CLOSING:
            inside.append(CLOSING[character])
        elif inside and character == inside[-1]:
            inside.pop()
        elif character == "," and not inside:
            parts.append(text[start:place])
            start = place + 1
    if quote or inside:
        raise UserError(f"{short(text)!r} lacks a closing {quote or inside[-1]}")
    return [_unquoted(part.strip()) for part in (*parts, text[start:])]


def name(overrides: Sequence[tuple[str, str]]) -> str:
    """Returns a folder's name, such as `prune.rate=0.1,seed=0`.

    Whatever is not a letter, a digit or one of `.+-` becomes `_`; then a digest of the text
    distinguishes values that would look alike.
    """
    parts = []
    for key, value in overrides:
        safe = UNSAFE.sub("_", value).strip("_")
        parts.append(f"{key}={safe}" + (f"~{_digest(value)}" if safe != value else ""))
    whole = ",".join(parts)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}~{_digest(whole)}"


def _point(overrides: Sequence[tuple[str, str]]) -> Point:
    keys = [key for key, _ in overrides]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise UserError(f"{twice[0]} is set twice in one point")
    return Point(name(overrides), dict(overrides))


def _axis(text: str) -> list[tuple[str, str]]:
    key, rest = _split(text, "--set")
    return [(key, value) for value in values(rest)]


def _lines(file: Path) -> list[list[tuple[str, str]]]:
    """Returns the overrides of each line of a file.

    A line has KEY=VALUE, separated by blanks, in quotes if they have blanks; # begins a comment.
    """
    lines = []
    text = small_files.text(file, "file of points", MOST_BYTES)
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
        if words:
            lines.append([_split(word, f"{file}, line {number}:") for word in words])
    if not lines:
        raise UserError(f"{file} has no point")
    return lines


def _split(text: str, where: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    key = key.removeprefix("--").removeprefix("config.")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", key):
        raise UserError(f"{where} {short(text)!r} must be KEY=VALUE, such as prune.rate=0.1")
    return key, value


def _unquoted(text: str) -> str:
    whole = (
        len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]
    )
    return text[1:-1] if whole else text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
