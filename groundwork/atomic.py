"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)  # of what can only be looked at


def write(path: Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8, that exists whole or not at all whenever the machine stops."""
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
