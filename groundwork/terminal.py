"""What a command writes on the terminal: any text as it is, in characters that the output has."""

import codecs
import os
import shutil
import sys
from typing import Any

from rich.console import Console

from groundwork.errors import printable

SPELLED = {
    "±": "+-", "×": "x", "…": "...", "→": "->", "−": "-", "–": "-", "“": '"', "”": '"', "’": "'",
}  # fmt: skip
_ERRORS = "groundwork.spelled"


def prepare() -> None:
    """Lets `print` write any text, whatever the encodings of the output are.

    Where standard streams are closed, their numbers go to the null device: the next file that is
    opened would get one of them, and with it what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    codecs.register_error(_ERRORS, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's cannot, and shows every character
            stream.reconfigure(errors=_ERRORS)


def console(error: bool = False, width: int | None = None) -> Console:
    """Returns a console that takes texts as they are: no markup, no emoji, no highlighting.

    Args:
      error: whether it writes to standard error.
      width: its columns; None for those of the terminal.
    """
    system = None if os.environ.get("NO_COLOR") else "auto"
    return Console(
        stderr=error,
        width=width,
        height=None if width is None else 25,  # without it, rich takes a dumb terminal's width
        color_system=system,  # type: ignore[arg-type]
        markup=False,
        emoji=False,
        highlight=False,
    )


def columns() -> int | None:
    """Returns the width of the terminal on standard output; None where that is no terminal."""
    return shutil.get_terminal_size().columns if shows(sys.stdout) else None


def shows(stream: Any) -> bool:
    """Returns whether a standard stream is a terminal; one that is closed is None."""
    return stream is not None and stream.isatty()


def say(text: str) -> None:
    """Prints a line of text; where the terminal is too narrow, it runs over."""
    console().print(fitting(text), soft_wrap=True)


def fitting(text: str, stream: Any = None) -> str:
    """Returns a text as one line of characters that a stream has; by default, standard output.

    What it lacks is spelled (`±` as `+-`) or escaped, and so are characters that do not print.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    codecs.register_error(_ERRORS, _spelled)
    return printable(text).encode(encoding, _ERRORS).decode(encoding)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Handles characters that an encoding lacks: see `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(c) or _escaped(c) for c in lacking), error.end


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def duration(seconds: float) -> str:
    """Returns `40 s`, `3 min`, `2 h 5 min` or `3 days 4 h`, as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def size(count: float) -> str:
    """Returns `512 bytes`, `3.1 kB`, `48 MB` or `1.2 GB`; a kB has 1,000 bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count:.0f} bytes"
