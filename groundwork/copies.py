"""Copies of folders in buckets, on this machine: what is read of a run there is brought here first.

They lie in a folder of this process, which is removed at its end; `TMPDIR` chooses its disk.
"""

import atexit
import contextlib
import fcntl
import fnmatch
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from groundwork import paths
from groundwork.buckets import CLASSES, LOCKS, BucketError, bucket, is_url

SCRATCH = "run-of-a-bucket-"  # how folders for copies begin
NEW_SECONDS = 60  # a younger folder for copies may not be locked yet


def near(path: str | Path, *parts: str) -> Path:
    """Returns a path of this machine: of an address, that of a copy of the folder there.

    Args:
      path: as a user gives it.
      parts: the files and folders of it that are needed, of which * stands for several; by default
        all. Other copies of this process stay as they are.

    Raises:
      UserError: see `paths.given`; or the bucket does not answer, or has no such folder.
    """
    if not is_url(path):
        return paths.given(path)
    there = bucket(str(path))
    copy = _copies() / place_of(there.url)
    _forget(copy, parts)
    names = [name for name in there.names() if not name.startswith(LOCKS)]
    if not names:
        raise BucketError(f"{there.url} does not exist, or is empty")
    there.bring([n for n in names if not parts or any(_is_of(n, part) for part in parts)], copy)
    copy.mkdir(parents=True, exist_ok=True)
    return copy


def near_file(path: str | Path) -> Path:
    """Returns a path of this machine: of the address of an object, that of a copy of it.

    Raises:
      UserError: see `near`; or there is no such object.
    """
    if not is_url(path):
        return paths.given(path)
    url, _, name = str(path).rpartition("/")
    there = bucket(url)
    data = there.read(name)
    if data is None:
        raise BucketError(f"{path} does not exist")
    copy = _copies() / place_of(there.url) / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(data)
    return copy


def place_of(url: str) -> Path:
    """Returns an address as the relative path of its copy, from whose parts it can be read."""
    return Path(*url.replace("://", "/").split("/"))


def told(text: str) -> str:
    """Returns a text that names copies with the addresses of what they are copies of."""
    scratch = re.escape(f"{tempfile.gettempdir()}/{SCRATCH}")
    return re.sub(rf"{scratch}[^/\s]+/({'|'.join(CLASSES)})/", r"\1://", text)


def _forget(copy: Path, parts: Sequence[str]) -> None:
    """Removes what is there of a copy, or of parts of it."""
    if not parts:
        shutil.rmtree(copy, ignore_errors=True)
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if any(_is_of(path.relative_to(copy).as_posix(), part) for part in parts):
            path.unlink()


def _is_of(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) or fnmatch.fnmatchcase(name, f"{part}/*")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Makes a folder for copies, removes it at the end, and those that killed runs left at once."""
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)  # what is left now goes next time


def _remove_if_left(folder: Path) -> None:
    """Removes a folder for copies whose process has ended: nobody locks it any more."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, or gone meanwhile
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        if time.time() - os.fstat(descriptor).st_mtime > NEW_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


@functools.cache
def _copies() -> Path:
    """Returns the folder for the copies of what this process reads."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch())
