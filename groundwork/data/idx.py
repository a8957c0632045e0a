"""IDX files, as MNIST has them, gzipped or not. Read `read` first.

A file begins with two zeros, a type, the number of dimensions, and a 32-bit size for each of them;
the numbers follow, all with the highest byte first. The header is read first: an array is given
memory once its size fits the file's, and no gzip is inflated beyond it.
Source: yann.lecun.com/exdb/mnist.
"""

# N examples, H W C image height, width, channels

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from groundwork.errors import UserError

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # of the third byte
PIXELS, CLASSES = (8, 13, 14), (8, 9, 11, 12)  # the types of images; of labels
CHANNELS = (1, 2, 3, 4)  # grey or colour, with or without transparency
CHUNK = 1 << 18  # bytes that are inflated at once
FREE = 1 << 25  # bytes to which any gzip may inflate
RATIO = 100  # bytes per byte of the gzip to which it may inflate


class Header(NamedTuple):
    """What a file says of its array."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def start(self) -> int:
        """The bytes before the array's own."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """The bytes of the whole file, once it is inflated."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def images(path: Path) -> Header:
    """Returns what a file says of its images: [N, H, W], or [N, H, W, C] with one to four channels.

    Numbers other than unsigned bytes must be floats: of other integers the format does not say
    which of them is white.

    Raises:
      UserError: the file cannot be read, or has no images; or its size is not what it says.
    """
    header, kind = _header(path, 3)
    if len(header.shape) == 4 and header.shape[3] not in CHANNELS:
        raise UserError(
            f"{path} has the shape {header.shape}: images in colour are [N, height, width, "
            f"channels], with at most {CHANNELS[-1]} channels along the last axis"
        )
    if len(header.shape) not in (3, 4):
        raise _other(path, 3, len(header.shape), kind, "[N, height, width] and perhaps channels")
    if kind not in PIXELS:
        reason = f"of {header.dtype.newbyteorder('=')} nothing says which number is white"
        raise _other(path, 3, len(header.shape), kind, f"unsigned bytes or floats ({reason})")
    if 0 in header.shape:
        raise UserError(f"{path} has the shape {header.shape}: there is no pixel in it")
    _check_size(header)
    return header


def labels(path: Path) -> Header:
    """Returns what a file says of its labels: [N], integers of any size.

    Raises:
      UserError: the file cannot be read, or has no labels; or its size is not what it says.
    """
    header, kind = _header(path, 1)
    if len(header.shape) != 1:
        raise _other(path, 1, len(header.shape), kind, "one number for each image")
    if kind not in CLASSES:
        raise _other(path, 1, 1, kind, "integers, since they are classes")
    _check_size(header)
    return header


def read(header: Header) -> np.ndarray:
    """Returns the array of a file, in the machine's order of bytes.

    Raises:
      UserError: the file is truncated, too long or damaged.
    """
    flat = np.empty(math.prod(header.shape), header.dtype)
    view = flat.view(np.uint8)
    with _opened(header.path) as file:
        file.read(header.start)
        for start in range(0, len(view), CHUNK):
            part = view[start : start + CHUNK]
            content = file.read(len(part))
            if len(content) < len(part):
                raise _of_other_size(header, header.start + start + len(content))
            part[:] = np.frombuffer(content, np.uint8)
        if file.read(1):  # where it ends, gzip compares its checksum
            raise _of_other_size(header, f"{header.size + 1} or more")
    if not flat.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
    return flat.reshape(header.shape)


def _header(path: Path, usual: int) -> tuple[Header, int]:
    """Returns the header and its type; errors show that of the `usual` dimensions."""
    with _opened(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES:
            raise UserError(
                f"{path} is not an IDX file: expected it to begin with 000008{usual:02x}, got "
                f"{magic.hex() or 'nothing'}"
            )
        sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise UserError(
            f"{path} is truncated: expected at least {4 + 4 * magic[3]} bytes, got {4 + len(sizes)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    return Header(path, shape, np.dtype(TYPES[magic[2]])), magic[2]


def _check_size(header: Header) -> None:
    """Refuses arrays that the file cannot have, before any memory is given to them."""
    length = header.path.stat().st_size
    if not _is_gzip(header.path):
        if length != header.size:
            raise _of_other_size(header, length)
    elif header.size > max(FREE, RATIO * length):
        raise UserError(
            f"{header.path} claims that its {length} bytes inflate to {header.size}: gunzip it "
            "first, if that is meant"
        )


def _of_other_size(header: Header, got: int | str) -> UserError:
    return UserError(
        f"{header.path} is truncated or too long: expected {header.size} bytes for shape "
        f"{header.shape}, got {got}"
    )


def _other(path: Path, usual: int, dimensions: int, kind: int, needed: str) -> UserError:
    return UserError(
        f"{path} must have {needed}: expected it to begin with 000008{usual:02x}, got "
        f"0000{kind:02x}{dimensions:02x}"
    )


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    if not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"{path} is no file")
    try:
        with gzip.open(path) if _is_gzip(path) else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}): truncated or damaged; get it again"
        ) from error
