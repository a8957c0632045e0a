"""Text as tokens, split by position: any file, or what every CPython ships. Read `read_text` first.

Worker processes import this module's room: it does without JAX.
"""

# T tokens, N windows, L length of a window

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from groundwork import typed
from groundwork.data.own import Arrays, Given, check_kwargs
from groundwork.devices import memory
from groundwork.errors import UserError, missing

BYTES = 256  # different ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """`data.kwargs` of a text.

    Attributes:
      unit: what a token is: `characters`, or `bytes` of any file.
      length: L, the tokens of a window.
      validation: the share of the text that is held out, after the training part.
      test: the share at its end that is tested on.
    """

    unit: Literal["characters", "bytes"] = "characters"
    length: int = 64
    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UserError(f"data.kwargs.length={self.length} must be at least 1")
        if not (self.test > 0 and self.validation >= 0 and self.validation + self.test < 1):
            raise UserError(
                f"data.kwargs: test={self.test:g} must be above 0, validation={self.validation:g} "
                "at least 0, and both together below 1"
            )


def read_text(name: str, path: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Returns windows of a text [N, L] int32, and for each token the one that follows, [N, L].

    The text is split by position, first training, then validation, then test, and each part into
    windows one after the other: each of its tokens but the first is a target once, but for those
    that fill no window at the part's end. No window crosses from one part to the next.

    Bytes have 256 classes. Characters have those of the training part, in the order of their code
    points; where another part has others, one symbol more, the last class, stands for all of them.
    No training example has it, so it costs many bits.

    Args:
      name: of the data set.
      path: of a file, or of a folder whose files, but hidden ones, follow each other in the order
        of their paths; empty = the topics of `pydoc_data`, in the order of their names, with a line
        break between them. They differ from one version of Python to the next.
      kwargs: see `Settings`.
      image_size: must be 0.

    Raises:
      UserError: a setting is unknown or out of range; there is no such file, it cannot be read, or
        it is no UTF-8; or the text has too few tokens for a window of each part.
    """
    del name
    settings = _settings(kwargs)
    if image_size:
        raise UserError("data.image_size has no use with data.source=text")
    content = _content(Path(path)) if path else _topics()
    where = f"data.path={path}" if path else "the topics of pydoc"
    tokens = _tokens(where, content, settings.unit)
    memory.check(where, 8 * len(tokens))
    parts = _parts(where, tokens, settings)
    if settings.unit == "characters":
        parts, classes = _numbered(parts)
    else:
        classes = BYTES
    train, validation, test = (_windows(part, settings.length) for part in parts)
    return Given(train, test, validation if settings.validation else None, classes)


def _settings(kwargs: Mapping[str, Any]) -> Settings:
    kinds = typed.fields(Settings)
    check_kwargs("text", kwargs, tuple(kinds))
    return Settings(
        **{
            name: typed.value(f"data.kwargs.{name}", one, kinds[name])
            for name, one in kwargs.items()
        }
    )


def _topics() -> bytes:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)).encode()


def _content(path: Path) -> bytes:
    """Returns the bytes of a file, or of all files of a folder."""
    if not path.exists():
        raise UserError(f"data.path={missing(path)}")
    files = sorted(_files(path)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"data.path={path} is a folder without files")
    if odd := [file for file in files if not file.is_file()]:
        raise UserError(f"data.path: {odd[0]} is no file of text")
    try:
        memory.check(f"data.path={path}", sum(file.stat().st_size for file in files))
        return b"".join(file.read_bytes() for file in files)
    except OSError as error:
        raise UserError(f"data.path={path} cannot be read: {error}") from error


def _files(folder: Path) -> list[Path]:
    """Returns the files of a folder and of those in it; links to folders are not followed."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(above) / name for name in names if not name.startswith(".")]
    return found


def _tokens(where: str, content: bytes, unit: str) -> np.ndarray:
    """Returns bytes, or the code points of characters, [T]."""
    if unit == "bytes":
        return np.frombuffer(content, np.uint8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is no UTF-8 text ({error.reason} at byte {error.start}): convert it, or set "
            "data.kwargs={'unit': 'bytes'}"
        ) from error
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _parts(where: str, tokens: np.ndarray, settings: Settings) -> list[np.ndarray]:
    """Returns the tokens of training, validation and test, in their order in the text."""
    held = [round(len(tokens) * share) for share in (settings.validation, settings.test)]
    first = len(tokens) - sum(held)
    parts = np.split(tokens, [first, first + held[0]])
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if len(part) <= settings.length and (name != "validation" or settings.validation):
            raise UserError(
                f"{where} has {len(tokens)} {settings.unit}, {len(part)} of them for {name}: a "
                f"window needs {settings.length + 1}; take a longer text, or a smaller "
                "data.kwargs length"
            )
    return parts


def _numbered(parts: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Returns the classes of code points, and how many there are."""
    known = np.unique(parts[0])
    numbered = []
    for part in parts:
        places = np.minimum(np.searchsorted(known, part), len(known) - 1)
        numbered.append(np.where(known[places] == part, places, len(known)))
    largest = max(int(part.max(initial=0)) for part in numbered)
    return numbered, max(largest + 1, len(known))


def _windows(tokens: np.ndarray, length: int) -> Arrays:
    count = max(0, len(tokens) - 1) // length
    inputs, targets = (
        tokens[first : first + count * length].astype(np.int32).reshape(count, length)
        for first in (0, 1)
    )
    return inputs, targets
