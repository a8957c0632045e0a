"""What the keys of a config mean, as the comments of its files say.

A comment is about the keys on whose line it ends, or else above whose line it stands.
"""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import decode_source
from pathlib import Path
from typing import NamedTuple

SECTIONS = ("dict", "ConfigDict", "FrozenConfigDict", "create")  # calls that make sections
ORDERS = ("noqa", "type:", "fmt:", "pragma:", "pylint:")  # comments that are for programs


class _Read(NamedTuple):
    """What a file says: key → comment, and section → the one that it is a copy of."""

    comments: dict[str, str]
    copies: dict[str, str]


class _Said(NamedTuple):
    """The comments of a file: by line, those after code and those that stand alone."""

    after: dict[int, str]
    alone: dict[int, str]


def of(files: Sequence[Path], keys: Iterable[str]) -> dict[str, str]:
    """Returns key → meaning, for those keys that have one.

    Args:
      files: of which a config is made. What an earlier one says of a key counts.
      keys: such as `prune.rate`.
    """
    reads = [_read(file.read_bytes()) for file in files]
    found = {key: _look_up(key, reads) for key in keys}
    return {key: meaning for key, meaning in found.items() if meaning}


def order(files: Sequence[Path]) -> list[str]:
    """Returns the keys that files say something of, as they stand, the first file first."""
    return list(dict.fromkeys(key for file in files for key in _read(file.read_bytes()).comments))


def _look_up(key: str, reads: Sequence[_Read]) -> str:
    """Returns what is said of a key, or of the one that it is a copy of."""
    for read in reads:
        if key in read.comments:
            return read.comments[key]
    parts = key.split(".")
    for count in range(len(parts) - 1, 0, -1):
        section, inside = ".".join(parts[:count]), ".".join(parts[count:])
        for read in reads:
            if section in read.copies:
                return _look_up(f"{read.copies[section]}.{inside}", reads)
    return ""


def _read(source: bytes) -> _Read:
    read = _Read({}, {})
    said = _comments(source)
    for node in ast.walk(ast.parse(source)):
        for key, value, place in _assigned(node):
            _note(key, value, place, said, read)
    return read


def _comments(source: bytes) -> _Said:
    said = _Said({}, {})
    lines = io.StringIO(decode_source(source))
    for token in tokenize.generate_tokens(lines.readline):
        words = token.string.lstrip("#").strip()
        if token.type == tokenize.COMMENT and words and not words.startswith(ORDERS):
            after = token.line[: token.start[1]].strip()
            (said.after if after else said.alone)[token.start[0]] = words
    return said


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """Yields key, value and place of what a statement assigns; the config itself has the key ""."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            key = _key(target)
            if key is not None:
                yield key, node.value, node
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        key = _key(call.func.value) if isinstance(call.func, ast.Attribute) else None
        if key is not None and _name(call.func) == "update":
            yield key, ast.Call(ast.Name("dict"), call.args, call.keywords), node


def _key(node: ast.expr) -> str | None:
    """Returns `prune.rate` for `config.prune.rate` or `config["prune"].rate`, whatever its name."""
    if isinstance(node, ast.Name):
        return ""
    part = None
    if isinstance(node, ast.Attribute):
        part = node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        part = str(node.slice.value)
    before = _key(node.value) if isinstance(node, ast.Attribute | ast.Subscript) else None
    if part is None or before is None:
        return None
    return f"{before}.{part}" if before else part


def _note(key: str, value: ast.expr, place: ast.AST, said: _Said, read: _Read) -> None:
    """Notes what is said of a key and of the keys inside it."""
    first, last = place.lineno, place.end_lineno  # type: ignore[attr-defined]
    own = [said.after[line] for line in range(first, last + 1) if line in said.after]
    if comment := " ".join(own) or _above(first, said):
        read.comments.setdefault(key, comment)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        source = _key(value.func.value)
        if source and value.func.attr.startswith("copy"):
            read.copies.setdefault(key, source)
    for name, each in _inside(value).items():
        inner = each.value if isinstance(each, ast.keyword) else each
        _note(f"{key}.{name}" if key else name, inner, each, said, read)


def _inside(value: ast.expr) -> Mapping[str, ast.keyword | ast.expr]:
    """Returns the keys of a section; none where a value is no section."""
    found: dict[str, ast.keyword | ast.expr] = {}
    if isinstance(value, ast.Call) and _name(value.func) in SECTIONS:
        for argument in value.args[:1]:
            found |= _inside(argument)
        found |= {keyword.arg: keyword for keyword in value.keywords if keyword.arg}
    elif isinstance(value, ast.Dict):
        for name, each in zip(value.keys, value.values, strict=True):
            if isinstance(name, ast.Constant):
                found[str(name.value)] = each
    return found


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _above(line: int, said: _Said) -> str:
    """Returns the comment that ends directly above a line."""
    first = line
    while first - 1 in said.alone:
        first -= 1
    return " ".join(said.alone[each] for each in range(first, line))
