"""Where decoded images are kept, so that each is decoded once: `data.cache`. Read `made` first.

A cache maps (window, place) to an example; see `examples.Source`. In memory it is a dict of one
process. On disk it is a `Folder`, which all processes and runs of a machine share. This module does
without JAX, since worker processes import it.
"""

import contextlib
import errno
import os
import shutil
import struct
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from groundwork import paths
from groundwork.data.examples import Cache, Example, Window
from groundwork.devices import memory
from groundwork.errors import UserError, unknown

KINDS = ("auto", "none", "memory")  # besides a folder
MOST_BY_ITSELF = 2**30  # bytes that `auto` keeps in memory
SHARE = 0.75  # of the machine's memory, beyond which `memory` is refused
PER_EXAMPLE = 400  # bytes that a dict needs for each image beside its pixels

ENTRY = struct.Struct("<qiiiI")  # offset of the pixels, height, width, label, checksum


def check(kind: str, workers: int) -> None:
    """Checks a `data.cache`.

    Raises:
      UserError: it is neither of `KINDS` nor a path, or a memory that workers would not share.
    """
    if kind not in KINDS and not is_folder(kind):
        raise UserError(f"{unknown('data.cache', kind, KINDS)}, or a folder: ./{kind}")
    if kind == "memory" and workers:
        raise UserError(
            f"data.cache=memory is not shared by data.workers={workers}: set data.workers=0, or "
            "data.cache=FOLDER, which they share"
        )


def is_folder(kind: str) -> bool:
    """Returns whether a `data.cache` is the path of a folder."""
    return "/" in kind or kind.startswith("~")


def made(kind: str, workers: int, name: str, channels: int, needed: int) -> Cache | None:
    """Returns an empty cache in memory, or the one in a folder, or None.

    Args:
      kind: `none`; `memory`; a folder; or `auto`, which is `memory` if there are no workers and no
        more than `MOST_BY_ITSELF` is needed, and else `none`.
      workers: processes that read.
      name: by which a folder knows the images, so that equal names mean equal images.
      channels: of the images.
      needed: bytes of all decoded images, which a folder does not ask: see `check_room`.

    Raises:
      UserError: the images do not fit into memory, or the folder cannot be written.
    """
    if is_folder(kind):
        return Folder(paths.given(kind), name, channels)
    if kind == "memory":
        there = memory.of_machine()
        if needed > SHARE * there:
            raise UserError(
                f"data.cache=memory needs {memory.shown(needed)} for decoded images, but this "
                f"machine has {memory.shown(there)}: set data.cache=none, or data.cache=FOLDER "
                "with room on a disk"
            )
        return {}
    fits = needed <= min(MOST_BY_ITSELF, memory.of_machine() // 4)
    return {} if kind == "auto" and fits and not workers else None


def check_room(kind: str, needed: Mapping[tuple[str, Window], int]) -> None:
    """Checks that the disk of a folder has room for those images that are not in it yet.

    Args:
      kind: a `data.cache`; there is nothing to check if it is no folder.
      needed: name of a cache and window → bytes of its decoded images.

    Raises:
      UserError: they do not fit.
    """
    if not is_folder(kind):
        return
    folder = paths.given(kind)
    lacking = sum(
        max(0, size - _size(_file(folder, name, window, "pixels")))
        for (name, window), size in needed.items()
    )
    free = shutil.disk_usage(_there(folder)).free
    if lacking > free:
        raise UserError(
            f"data.cache={folder} needs {memory.shown(lacking)} for decoded images, but its disk "
            f"has {memory.shown(free)} left: free some, or set data.cache=none"
        )


class Folder:
    """Decoded images in the files of a folder, two for each window: an index and pixels.

    Pixels are appended, then their entry is written to the index, with a checksum. So a reader
    sees an image whole or not at all, whoever writes beside it and wherever a writer was killed;
    what is damaged is decoded again. Processes may write one image twice, which wastes its room.
    """

    def __init__(self, folder: Path, name: str, channels: int):
        """Opens the cache `name` in a folder."""
        self.folder, self.name, self.channels = folder, name, channels
        self._files: dict[Window, tuple[int, int]] = {}  # descriptors of the index and the pixels
        self._lock = threading.Lock()
        with self._able_to("written"):
            folder.mkdir(parents=True, exist_ok=True)

    def __reduce__(self) -> tuple[type, tuple[Path, str, int]]:
        return Folder, (self.folder, self.name, self.channels)

    def get(self, key: tuple[Window, int]) -> Example | None:
        """Returns the example of a window and a place, or None."""
        window, place = key
        index, pixels = self._opened(window)
        with self._able_to("read"):
            entry = os.pread(index, ENTRY.size, place * ENTRY.size)
            if len(entry) < ENTRY.size:
                return None
            offset, height, width, label, checksum = ENTRY.unpack(entry)
            size = height * width * self.channels
            if min(offset, height - 1, width - 1, os.fstat(pixels).st_size - offset - size) < 0:
                return None
            content = os.pread(pixels, size, offset)
        if _checksum(content, place, height, width, label) != checksum:
            return None
        image = np.frombuffer(content, np.uint8).reshape(height, width, self.channels)
        return image, label

    def __setitem__(self, key: tuple[Window, int], example: Example) -> None:
        (window, place), (image, label) = key, example
        content, (height, width, _) = image.tobytes(), image.shape
        checksum = _checksum(content, place, height, width, label)
        index, pixels = self._opened(window)
        with self._able_to("written"), self._lock:
            if os.write(pixels, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            offset = os.lseek(pixels, 0, os.SEEK_CUR) - len(content)  # another may have appended
            entry = ENTRY.pack(offset, height, width, label, checksum)
            os.pwrite(index, entry, place * ENTRY.size)

    def _opened(self, window: Window) -> tuple[int, int]:
        with self._lock:
            if window not in self._files:
                index_file, pixels_file = (
                    _file(self.folder, self.name, window, end) for end in ("index", "pixels")
                )
                with self._able_to("written"):
                    index = os.open(index_file, os.O_RDWR | os.O_CREAT, 0o666)
                    self._close_later(index)
                    how = os.O_RDWR | os.O_CREAT | os.O_APPEND
                    pixels = os.open(pixels_file, how, 0o666)
                    self._close_later(pixels)
                self._files[window] = index, pixels
            return self._files[window]

    def _close_later(self, descriptor: int) -> None:
        # Not at exit: threads may still write, and another file might have the number by then.
        weakref.finalize(self, os.close, descriptor).atexit = False

    @contextlib.contextmanager
    def _able_to(self, be: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"data.cache={self.folder} cannot be {be} ({error.strerror}): give another "
                "folder, or data.cache=none"
            ) from error


def _file(folder: Path, name: str, window: Window, end: str) -> Path:
    return folder / f"{name}-{window[0]}-{window[1]}.{end}"


def _size(path: Path) -> int:
    """Returns the bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _there(folder: Path) -> Path:
    """Returns the folder, or the one above it in which it will be made."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _checksum(content: bytes, place: int, height: int, width: int, label: int) -> int:
    head = ENTRY.pack(place, height, width, label, len(content))
    return zlib.crc32(content, zlib.crc32(head))
