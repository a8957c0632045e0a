"""Errors as one line that says what is wrong and what would be right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake that the user can fix; it ends in one line and exit code 2 (`entry.run_main`)."""


class ArgumentError(UserError, ValueError):
    """A `UserError` about an argument of a function that users call, which is a `ValueError`."""


def unknown(kind: str, name: object, known: Iterable[str], most: int = 20) -> UserError:
    """Returns the error for a name that is not known.

    It suggests the most similar known name, and lists all of them if they are at most `most`.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(known)})" if len(known) <= most else ""
    return UserError(f"unknown {kind} {name!r}{hint}{listed}")


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
