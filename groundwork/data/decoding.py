"""The pixels of an image file. Read `decode` first.

OpenCV reads plain JPEGs and PNGs, in three quarters and a quarter of Pillow's time; Pillow reads
all other files. Where both can read a file, the bits are the same, and nobody turns an image as
its EXIF data says.
"""

# H W C image height, width, channels

import functools
import io
import struct
import threading
import zlib
from typing import Any

import numpy as np
import PIL
from PIL import Image

from groundwork.errors import UserError

MODES = {1: "L", 3: "RGB"}  # channels → Pillow's name for such an image
LONG = ("I", "F")  # the beginnings of its modes of more bits: `convert` would clip them
LARGEST = 2**26  # pixels: Pillow warns of images that are somewhat larger, and refuses huge ones
IMPORT = threading.Lock()
PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"tIME")
JPEG = b"\xff\xd8"
JPEG_FRAMES = (0xC0, 0xC2)  # baseline and progressive
JPEG_HEADERS = (0xDB, 0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0))  # what may come before a frame


def decode(content: bytes, channels: int) -> np.ndarray:
    """Returns the pixels of an image file, uint8 [H, W, channels], converted to grey or colour.

    Raises:
      UserError: it has more than 8 bits per pixel; the text begins with "has".
      OSError: Pillow cannot read the image, or it is truncated.
    """
    if channels in _plain(content):
        cv2 = opencv()
        kind = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        encoded = np.frombuffer(content, np.uint8)
        pixels = cv2.imdecode(encoded, kind | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return pixels.reshape(*pixels.shape[:2], channels)
    with Image.open(io.BytesIO(content)) as image:  # which says what is wrong with a damaged one
        check_depth(image)
        pixels = np.asarray(image.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def check_depth(image: Image.Image) -> None:
    """Checks that an opened image has no more than 8 bits per pixel and channel.

    Raises:
      UserError: it has; the text begins with "has".
    """
    if image.mode.startswith(LONG):
        raise UserError(
            f"has more than 8 bits per pixel (mode {image.mode}): write it with 8, or give its "
            "numbers as an .npz file"
        )


@functools.cache
def opencv() -> Any:
    """Returns OpenCV, which takes 0.1 s to import, silent and without threads of its own.

    Of a JPEG with damage that Pillow reads over, its libjpeg still writes a line to stderr.
    """
    with IMPORT:  # for a moment its import takes itself out of `sys.modules`
        import cv2

    cv2.setNumThreads(0)  # batches are made in parallel, not images
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def versions() -> str:
    """Returns the versions on which the bits of a decoded and scaled image depend."""
    return f"Pillow {PIL.__version__}, OpenCV {opencv().__version__}"


def _plain(content: bytes) -> tuple[int, ...]:
    """Returns the channels with which OpenCV reads a file as Pillow does, from its headers."""
    try:
        if content.startswith(PNG):
            return _plain_png(content)
        return _plain_jpeg(content) if content.startswith(JPEG) else ()
    except (struct.error, IndexError):  # truncated
        return ()


def _plain_png(content: bytes) -> tuple[int, ...]:
    """Finds whole files of 8 bits without palette, transparency and animation."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if depth != 8 or colour not in (0, 2) or interlaced or width * height > LARGEST:
        return ()
    at, kind = len(PNG), b""
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", content, at)
        (checksum,) = struct.unpack_from(">I", content, at + 8 + size)
        # libpng would write of a wrong one to stderr.
        if kind not in PNG_CHUNKS or zlib.crc32(content[at + 4 : at + 8 + size]) != checksum:
            return ()
        at += 12 + size
    return (1, 3) if colour == 0 else (3,)


def _plain_jpeg(content: bytes) -> tuple[int, ...]:
    """Finds files of 8 bits, grey or in three colours."""
    at = len(JPEG)
    while content[at] == 0xFF and content[at + 1] in JPEG_HEADERS:
        at += 2 + struct.unpack_from(">H", content, at + 2)[0]
    marker, kind, _, depth, height, width, colours = struct.unpack_from(">BBHBHHB", content, at)
    if (marker, depth) != (0xFF, 8) or kind not in JPEG_FRAMES or width * height > LARGEST:
        return ()
    return {1: (1, 3), 3: (3,)}.get(colours, ())
