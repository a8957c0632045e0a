"""Errors as one line that says what is wrong and what would be right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

LONGEST = 400  # characters of an error


class UserError(Exception):
    """A mistake that the user can fix; it ends in one line and exit code 2 (`entry.run_main`)."""

    def __str__(self) -> str:
        text = one_line(super().__str__())
        half = LONGEST // 2 - 2
        return text if len(text) <= LONGEST else f"{text[:half]} … {text[-half:]}"


def one_line(text: str) -> str:
    """Returns a text with escapes for all that would end a line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object, most: int = 80) -> str:
    """Returns a value for an error: in one line, and no longer than that."""
    try:
        text = repr(value)
    except Exception:  # a huge integer, or an object of the user's: both may refuse
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"


def unknown(kind: str, name: object, known: Iterable[str], most: int = 20) -> UserError:
    """Returns the error for a name that is not known.

    It suggests the most similar known name, and lists all of them if they are at most `most`.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name[:99] if isinstance(name, str) else "", known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(known)})" if len(known) <= most else ""
    return UserError(f"unknown {kind} {shown(name)}{hint}{listed}")


@contextlib.contextmanager
def about(key: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Turns a library's error about an argument into one that names a key of the config.

    Raises:
      UserError: an error of that kind is raised inside.
    """
    try:
        yield
    except kind as error:
        raise UserError(f"{key}: {error}") from error
