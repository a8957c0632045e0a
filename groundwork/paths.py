"""Paths as users type them: `~` is a home folder, and a path that cannot serve is refused."""

import os
import re
from pathlib import Path

from groundwork.errors import UserError, short

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")  # how that of a bucket begins, such as s3://


def given(path: str | Path) -> Path:
    """Returns the path that a user means: `~` and `~user` at its beginning are home folders.

    Shells do not replace them inside of an argument such as `--workdir=~/runs`. A folder that has
    such a name is `./~`; the result is absolute there, so that this function can be repeated.

    Raises:
      UserError: there is no such user, or no path can have a character of it; or it is the address
        of a bucket, which only `groundwork.buckets` understands.
    """
    text = os.fspath(path)
    if isinstance(path, str) and ADDRESS.match(text):
        raise UserError(f"{short(text)} is an address, which cannot be given here: give a path")
    if "\0" in text:
        raise UserError(f"{text!r} is no path: no name can have the character \\0")
    meant = os.path.expanduser(text)
    if text.startswith("~") and meant == text:
        user = Path(text).parts[0]
        raise UserError(f"{text}: there is no user {user[1:]!r}; ./{user} is a folder of that name")
    found = Path(meant)
    return found.absolute() if str(found).startswith("~") else found


def obstacle(folder: Path) -> str:
    """Returns what is where a folder is to be, or above it, in words; empty if nothing is."""
    for part in (*reversed(folder.parents), folder):
        if not os.path.lexists(part):
            return ""
        if not part.exists():
            return f"{part} is a link to {os.readlink(part)}, which does not exist"
        if not part.is_dir():
            return f"{part} is a file, not a folder"
    return ""
