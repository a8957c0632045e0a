"""Errors that are answers: one line that says what was wrong and what would be right."""

import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence


class UserError(Exception):
    """Something that a user can mend. `main` prints it as one line and exits with code 2."""


def unknown(what: str, name: object, known: Iterable[str], most: int = 20) -> UserError:
    """The error for a name that is not among `known`: suggests the near one, lists up to `most`."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = f" (known: {', '.join(known)})" if len(known) <= most else ""
    return UserError(f"unknown {what} {name!r}{hint}{listed}")


def run_main(entry: Callable[[Sequence[str]], None]) -> None:
    """Run a `main`; a user's mistake is one line on stderr and exit code 2."""
    try:
        entry(sys.argv[1:])
    except UserError as error:
        sys.exit(_fail(str(error)))
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        sys.exit(_fail(f"{what}. What was written before is whole: mend it, start again"))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
