"""Errors that are answers: one line that says what was wrong and what would be right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Something that a user can mend: one line, and exit code 2 (see `entry.run_main`)."""


def unknown(what: str, name: object, known: Iterable[str], most: int = 20) -> UserError:
    """The error for a name that is not among `known`: suggests the near one, lists up to `most`."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(known)})" if len(known) <= most else ""
    return UserError(f"unknown {what} {name!r}{hint}{listed}")


@contextlib.contextmanager
def about(key: str) -> Iterator[None]:
    """Turns what a library says of its argument into an error that names a key of the config.

    Raises:
      UserError: a `ValueError` is raised inside.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
