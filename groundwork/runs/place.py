"""The folder of a run before anything is in it: whether it can serve, and who holds it."""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from groundwork import paths
from groundwork.errors import UserError
from groundwork.runs import checkpoint


def check(folder: Path) -> None:
    """Checks that a run can be in a folder, which need not exist.

    Raises:
      UserError: a file is there, or checkpoints cannot be.
    """
    checkpoint.check_place(folder)
    if wrong := paths.obstacle(folder):
        raise UserError(f"{wrong}: give another --workdir")


def lock(folder: Path) -> int:
    """Makes and locks the folder; returns its descriptor.

    Raises:
      UserError: it is in use, or `check` refuses it.
    """
    check(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}): give another --workdir"
        ) from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{folder} is in use by another process: wait for it, or stop it") from None
    return descriptor


def in_use(folder: Path) -> bool:
    """Returns whether a command holds the lock of a run's folder, which need not exist."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_inside(folders: Iterable[Path]) -> None:
    """Checks that nothing else is where folders will be made, before hours of work are done.

    Raises:
      UserError: a file or a link to nothing is there; the error names it.
    """
    for folder in folders:
        if wrong := paths.obstacle(folder):
            raise UserError(f"{wrong}: move it away, and start the run again")
