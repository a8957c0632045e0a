"""Files of arrays, .npz and .npy, that anybody may have made. Read `read` first.

What a file declares is compared with its size, and with what the caller expects, before any memory
is given to its arrays. Nothing in a file is executed. Arrays come back in the machine's own order
of bytes. Sources: PKWARE's APPNOTE.TXT (zip), `numpy.lib.format` (arrays).
"""

import contextlib
import io
import math
import re
import stat
import zipfile
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

CHUNK = 1 << 18  # bytes that are inflated at once
DIRECTORY = 1 << 22  # bytes of the longest directory, which has some 30,000 members
FREE = 1 << 25  # bytes to which any file may inflate
RATIO = 100  # bytes per byte of the file to which it may inflate; images and weights have 1 to 40
_AXES = 32
_ENTRIES = 2**58  # of the largest array, its empty axes counted as if they were of length 1
_END = 22 + 0xFFFF  # bytes of the longest last record, with its comment
_HEADER = 10_000  # bytes of the longest header, as in NumPy
_NAME = 500  # characters of the longest name
_MAGIC = b"\x93NUMPY"
_WIDTHS = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}  # version → bytes of the header's length
_FIELD = (
    r"""\s*(?:['"]descr['"]\s*:\s*(?:['"](?P<dtype>[^'"]*)['"]|(?P<struct>\[.*\]))"""
    r"""|['"]fortran_order['"]\s*:\s*(?P<fortran>True|False)"""
    r"""|['"]shape['"]\s*:\s*\((?P<shape>[^()]*)\))\s*(?:,\s*|(?=\}))"""
)
_FIELDS = re.compile(r"\{(?:" + _FIELD + r"){3}\}\s*", re.DOTALL | re.ASCII)
_NUMBERS = re.compile(r"[<>|=]?[biuf]\d{1,2}")


class Header(NamedTuple):
    """What a file says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool  # whether the first axis is the one whose entries are neighbours
    start: int  # bytes before the array's own

    @property
    def size(self) -> int:
        """The bytes of the array, and of the header before it."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


class _Refused(ValueError):
    """An error whose text says all."""


def read(
    path: Path,
    names: Container[str] | None = None,
    check: Callable[[Mapping[str, Header]], None] = lambda headers: None,
) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz file, by name.

    The memory that it takes is that of the arrays and half a megabyte.

    Args:
      path: the file.
      names: of the arrays that are read; None = all.
      check: is given the headers before any array is read, and raises what it likes.

    Raises:
      ValueError: the file cannot be read or is damaged; an array is encrypted, packed by anything
        but DEFLATE, there twice, or no array of numbers; or the file inflates to more than
        `FREE` bytes and `RATIO` times its size.

    Example:
        >>> from pathlib import Path
        >>> from groundwork.numerics import npz
        >>> np.savez("weights.npz", kernel=np.array([[1.0, 2.0]]), bias=np.array([3.0]))
        >>> {name: array.tolist() for name, array in npz.read(Path("weights.npz")).items()}
        {'kernel': [[1.0, 2.0]], 'bias': [3.0]}
        >>> list(npz.read(Path("weights.npz"), names={"bias"}))
        ['bias']
    """
    with opened(path) as file:
        with _said():
            archive = zipfile.ZipFile(file)
            _check_count(file, len(archive.infolist()))
            members = _members(archive, names)
            _check_inflation(members, file.seek(0, io.SEEK_END))
            headers = {name: _header_of(archive, name, info) for name, info in members.items()}
        check(headers)
        arrays = {}
        for name, info in members.items():
            with _said(), archive.open(info) as member:
                _exactly(name, member, headers[name].start)
                arrays[name] = _array(name, member, headers[name])
        return arrays


def names(path: Path) -> list[str]:
    """Returns the names of an .npz file's arrays.

    Raises:
      ValueError: as `read`, of the file and the list of its members.
    """
    with opened(path) as file, _said():
        archive = zipfile.ZipFile(file)
        _check_count(file, len(archive.infolist()))
        return list(_members(archive, None))


def read_one(path: Path) -> np.ndarray:
    """Returns the array of an .npy file.

    Raises:
      ValueError: the file cannot be read, or is not one array of numbers of the size it says.
    """
    with opened(path) as file, _said():
        header = _header("it", file)
        size = file.seek(0, io.SEEK_END)
        if header.size != size:
            raise _Refused(f"it is damaged: it has {size} bytes, and its header says {header.size}")
        file.seek(header.start)
        return _array("it", file, header)


class _File(io.FileIO):
    """A file of which little is read at once: zipfile reads a directory as long as it claims."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > DIRECTORY:
            raise _Refused("its directory of members is too long")
        return super().read(size)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.FileIO]:
    """Opens a file, but no pipe and no folder.

    Raises:
      ValueError: it is none, or cannot be opened.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise _Refused("it is no file")
        file = _File(path)
    except OSError as error:
        raise ValueError(f"it cannot be opened: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Turns all that zipfile raises of damaged files, which is of a dozen kinds, into one line."""
    try:
        yield
    except _Refused:
        raise
    except MemoryError as error:
        raise ValueError("there is not enough memory for its arrays") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"it is damaged, or no archive of arrays ({reason})") from error


def _check_count(file: io.FileIO, members: int) -> None:
    """Refuses an archive whose end counts other members than zipfile has found."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - _END))
    end = file.read(_END)
    counted = int.from_bytes(end[end.rfind(b"PK\5\6") :][10:12], "little")
    if counted != members:
        raise _Refused(f"it is damaged: it has {members} members, and its end says {counted}")


def _members(archive: zipfile.ZipFile, names: Container[str] | None) -> dict[str, zipfile.ZipInfo]:
    """Returns array's name → where it is in the archive."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if names is not None and name not in names:
            continue
        if not name.isprintable() or len(name) > _NAME:
            raise _Refused(f"one of its members has the name {name[:50]!a}…")
        if name in members:
            raise _Refused(f"it has {name} twice")
        if info.flag_bits & 0x41:
            raise _Refused(f"{name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Refused(
                f"{name} is packed by method {info.compress_type}, which is not read here: write "
                "the file with numpy.savez"
            )
        members[name] = info
    return members


def _check_inflation(members: Mapping[str, zipfile.ZipInfo], size: int) -> None:
    total = sum(info.file_size for info in members.values())
    if total > max(FREE, RATIO * size):
        raise _Refused(
            f"its {size} bytes claim to hold {total}: write the file with numpy.savez, which packs "
            "nothing, if that is meant"
        )


def _header_of(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Header:
    with archive.open(info) as member:
        header = _header(name, member)
    if header.size != info.file_size:
        raise _Refused(
            f"{name} is damaged: it has {info.file_size} bytes, and its header says {header.size}"
        )
    return header


def _header(name: str, file: IO[bytes]) -> Header:
    start = _exactly(name, file, 8)
    if start[:6] != _MAGIC or start[6:] not in _WIDTHS:
        raise _Refused(f"{name} is no array of NumPy's")
    width = _WIDTHS[start[6:]]
    length = int.from_bytes(_exactly(name, file, width), "little")
    if length > _HEADER:
        raise _Refused(f"{name} has a header of {length} bytes, which no array of numbers needs")
    text = _exactly(name, file, length).decode("latin1")
    found = _FIELDS.fullmatch(text)
    if not found or None in (found["fortran"], found["shape"], found["dtype"] or found["struct"]):
        raise _Refused(f"{name} has a damaged header")
    dtype = found["struct"] or found["dtype"]
    if not _NUMBERS.fullmatch(dtype):
        raise _Refused(f"{name} holds no numbers, but objects or records ({dtype[:50]!a})")
    return Header(
        shape=_shape(name, found["shape"]),
        dtype=np.dtype(dtype),
        fortran=found["fortran"] == "True",
        start=8 + width + length,
    )


def _shape(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        parts.pop()
    if len(parts) > _AXES or not all(re.fullmatch(r"\d{1,19}L?", part, re.A) for part in parts):
        raise _Refused(f"{name} has a shape that is none: ({text[:50]})")
    shape = tuple(int(part.rstrip("L")) for part in parts)
    if math.prod(max(length, 1) for length in shape) > _ENTRIES:
        raise _Refused(f"{name} has the shape {shape}, which no memory holds")
    return shape


def _array(name: str, file: IO[bytes], header: Header) -> np.ndarray:
    """Returns the array behind the header; at the end of a member, zipfile compares checksums."""
    flat = np.empty(math.prod(header.shape), header.dtype)
    view = flat.view(np.uint8)
    for start in range(0, len(view), CHUNK):
        part = view[start : start + CHUNK]
        part[:] = np.frombuffer(_exactly(name, file, len(part)), np.uint8)
    if header.dtype.kind == "b" and view.max(initial=0) > 1:
        raise _Refused(f"{name} has truth values that are neither 0 nor 1")
    if not flat.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
    return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)


def _exactly(name: str, file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise _Refused(f"{name} is cut off")
    return content
