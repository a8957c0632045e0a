"""Small files that a user writes and names: a config, the points of a sweep."""

import os
import stat
from pathlib import Path

from groundwork.errors import UserError, missing, short


def check(path: Path, kind: str, most_bytes: int) -> None:
    """Checks that a path is an ordinary file, which can be read and is as small as its kind is.

    Args:
      path: of the file.
      kind: what the file is, such as `config file`, for errors.
      most_bytes: the most that a file of this kind may have.

    Raises:
      UserError: it is not.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{kind} {missing(path)}") from error
    except (OSError, ValueError) as error:  # a name may be too long, or no name at all
        raise _unreadable(path, kind, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{kind} {short(path)} is a folder: give a file")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{kind} {short(path)} is no ordinary file, but a pipe or a device")
    if found.st_size > most_bytes:
        raise UserError(
            f"{kind} {short(path)} has {found.st_size:,} bytes, and may have {most_bytes:,}: "
            "is it another file?"
        )
    if not os.access(path, os.R_OK):
        raise UserError(f"{kind} {short(path)} cannot be read: you lack the permission")


def text(path: Path, kind: str, most_bytes: int) -> str:
    """Returns the text of a file that passes `check`.

    Raises:
      UserError: it does not, or it is no UTF-8 text.
    """
    check(path, kind, most_bytes)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{kind} {short(path)} is no UTF-8 text, at byte {error.start}") from error
    except OSError as error:
        raise _unreadable(path, kind, error) from error
    if "\0" in content:
        raise UserError(f"{kind} {short(path)} is no text: it has NUL characters")
    return content


def _unreadable(path: Path, kind: str, error: Exception) -> UserError:
    why = getattr(error, "strerror", None) or str(error)
    return UserError(f"{kind} {short(path)} cannot be read: {why}")
