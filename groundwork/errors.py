"""Errors as one line that says what is wrong and what would be right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

LONGEST = 1000  # characters of an error
LONGEST_REASON = 300


class UserError(Exception):
    """A mistake that the user can fix; it ends in one line and exit code 2 (`entry.run_main`)."""

    def __str__(self) -> str:
        """Returns the text as one line that every terminal shows."""
        return short(printable(super().__str__()), LONGEST)


def printable(text: str) -> str:
    """Returns a text with escapes in place of characters that do not print, such as newlines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object, most: int = 80) -> str:
    """Returns how a value is written, for an error: in one line, and no longer than that."""
    try:
        text = repr(value)
    except Exception:  # a huge integer, or an object of the user's: both may refuse
        text = f"a {type(value).__name__}"
    return short(" ".join(text.split()), most)


class ArgumentError(UserError, ValueError):
    """A `UserError` about an argument of a function that users call, which is a `ValueError`."""


def unknown(kind: str, name: object, known: Iterable[str], most: int = 20) -> UserError:
    """Returns the error for a name that is not known.

    It suggests the most similar known name, and lists all of them if they are at most `most`.
    """
    known = sorted(known)
    given = name if isinstance(name, str) else shown(name)
    near = difflib.get_close_matches(given[:99], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(known)})" if len(known) <= most else ""
    return UserError(f"unknown {kind} {shown(name)}{hint}{listed}")


@contextlib.contextmanager
def about(
    key: str, kind: type[Exception] | tuple[type[Exception], ...] = ValueError
) -> Iterator[None]:
    """Turns a library's error about an argument into one that names a key of the config.

    Raises:
      UserError: an error of that kind, or of one of several, is raised inside.
    """
    try:
        yield
    except kind as error:
        raise UserError(f"{key}: {error}") from error


def reason(error: BaseException) -> str:
    """Returns the kind and the text of an error in one line of at most 300 characters."""
    kind = type(error).__name__
    try:
        text = str(error)[: 100 * LONGEST_REASON]
    except Exception:  # a user's error may fail to say what it is
        return f"{kind}, which cannot be shown"
    text = " ".join(text.partition("-" * 20)[0].split())  # JAX adds words on its traceback
    return f"{kind}: {text}"[:LONGEST_REASON] if text else kind


def short(text: object, most: int = LONGEST_REASON) -> str:
    """Returns a text without its middle if it has more characters than anybody would type."""
    whole = str(text)
    half = most // 2
    return whole if len(whole) <= most else f"{whole[: half - 1]}…{whole[len(whole) - half :]}"


def missing(path: str | Path) -> str:
    """Returns the words that a path does not exist and, if it is relative, in which folder."""
    try:
        here = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
    except OSError:  # the current folder itself was removed
        here = ": the current folder is gone"
    return f"{short(path)} does not exist{here}"


def check_text(words: Iterable[str]) -> None:
    """Checks that the words of a command line are text.

    Raises:
      UserError: one has bytes that are no UTF-8, or NUL characters.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the argument {short(word)} is no UTF-8 text") from error
        if "\0" in word:
            raise UserError(f"the argument {short(word)} has NUL characters")
