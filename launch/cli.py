"""What the launchers' command lines share: errors of one line, and the command after `--`."""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from groundwork import paths
from groundwork.errors import UserError, check_text, short

MOST = 10**6  # of what is counted in fractions, such as hours


class Parser(argparse.ArgumentParser):
    """A parser with errors of one line, full flags only, and a story after the list of flags."""

    def __init__(self, module: str, usage: str, story: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            usage=f"python -m {module} {usage}",
            epilog=story,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the error that `run_main` prints."""
        raise UserError(f"{short(message)} ({self.prog} --help has all flags)")


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns what stands before the first `--`, and what stands after it.

    Raises:
      UserError: a word is no text, or the value of a flag is `--`.
    """
    argv = list(argv)
    check_text(argv)
    place = argv.index("--") if "--" in argv else len(argv)
    for flag in argv[:place]:
        if flag.endswith("=--"):  # of which argparse would make an empty list
            raise UserError(f"{short(flag)}: the value -- has a meaning of its own; give another")
    return argv[:place], argv[place + 1 :]


def command(words: Sequence[str]) -> list[str]:
    """Returns a command to start; `python` as first word becomes the interpreter that runs this.

    Raises:
      UserError: there is no word.
    """
    if not words:
        raise UserError("no command: give it after --, as in -- python -m lottery.main --config=…")
    first = sys.executable if words[0] in ("python", "python3") else words[0]
    return [first, *words[1:]]


def as_typed(words: Sequence[str]) -> str:
    """Returns a command as it would be typed."""
    return shlex.join(words)


def at_least(least: int) -> Callable[[str], int]:
    """Returns what makes a whole number of a flag's text, or refuses it."""

    def whole(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text):
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number below 10⁹")
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} must be at least {least}")
        return int(text)

    return whole


def positive(text: str) -> float:
    """Returns the number that a flag's text is, or refuses it."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < MOST:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0 and below 10⁶")
    return number


def word(text: str) -> str:
    """Returns a flag's text, or refuses one that is empty or would be several lines of a script."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} must be one line of text")
    return text


def path(text: str) -> Path:
    """Returns the file or folder that a flag names, or refuses an empty text."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: give a path")
    return paths.given(text)
