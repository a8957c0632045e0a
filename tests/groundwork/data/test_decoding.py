"""Pixels of image files: OpenCV's are Pillow's, and what OpenCV reads otherwise is Pillow's."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from groundwork.data import decoding, examples
from groundwork.errors import UserError


def picture(height=20, width=30, mode="RGB"):
    """Smooth colours with some noise."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 4), np.uint8), "RGBA")
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy, "RGBA").convert(mode)


def encoded(image, kind, **kwargs):
    content = io.BytesIO()
    image.save(content, kind, **kwargs)
    return content.getvalue()


def pillows(content, channels):
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def assert_pillows(content, channels):
    made = decoding.decode(content, channels)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, pillows(content, channels))


@pytest.fixture
def calls(monkeypatch):
    """The files that OpenCV read."""
    cv2, calls = decoding.opencv(), []
    imdecode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *a: calls.append(a) or imdecode(*a))
    return calls


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 47), (224, 224)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpegs_have_the_same_bits(size, mode, calls):
    for quality in (30, 100):
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                how = dict(quality=quality, subsampling=subsampling, progressive=progressive)
                content = encoded(picture(*size, mode), "JPEG", **how)
                assert_pillows(content, 3)
                assert_pillows(content, 1)
    assert len(calls) == (24 if mode == "L" else 12)  # colours become grey by Pillow


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (28, 28)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pngs_have_the_same_bits(size, mode, calls):
    for level in (0, 6):
        content = encoded(picture(*size, mode), "PNG", compress_level=level, dpi=(3, 3))
        assert_pillows(content, 3)
        assert_pillows(content, 1)
    assert len(calls) == (4 if mode == "L" else 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_comes_back_exactly(channels):
    image = np.random.default_rng(0).integers(0, 256, (6, 4, channels), np.uint8)
    content = encoded(Image.fromarray(image[..., 0] if channels == 1 else image), "PNG")
    np.testing.assert_array_equal(decoding.decode(content, channels), image)


def test_grey_becomes_three_equal_channels_and_colour_becomes_grey():
    grey, colour = picture(mode="L"), picture()
    made = decoding.decode(encoded(grey, "PNG"), 3)
    np.testing.assert_array_equal(made, np.repeat(np.asarray(grey)[..., None], 3, -1))
    luma = np.asarray(colour) @ [0.299, 0.587, 0.114]  # ITU-R 601-2
    made = decoding.decode(encoded(colour, "PNG"), 1)
    np.testing.assert_allclose(made[..., 0], luma, atol=1)


def with_exif(kind):
    turned = Image.Exif()
    turned[0x0112] = 6  # the orientation: to be turned by a quarter
    return encoded(picture(), kind, exif=turned)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sixteen():
    return Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)


ODD = {
    "turned JPEG": lambda: with_exif("JPEG"),
    "turned PNG": lambda: with_exif("PNG"),
    "JPEG without a transform of colours": lambda: encoded(picture(), "JPEG", keep_rgb=True),
    "JPEG with a comment and a profile": lambda: encoded(
        picture(), "JPEG", comment=b"x" * 300, icc_profile=bytes(200)
    ),
    "JPEG of CMYK": lambda: encoded(picture(mode="CMYK"), "JPEG"),
    "JPEG with a byte after it": lambda: encoded(picture(), "JPEG") + b"\0",
    "PNG of 1 bit": lambda: encoded(picture(mode="1"), "PNG"),
    "PNG of a palette": lambda: encoded(picture().quantize(8), "PNG"),
    "PNG of grey and alpha": lambda: encoded(picture(mode="LA"), "PNG"),
    "PNG of colour and alpha": lambda: encoded(picture(mode="RGBA"), "PNG"),
    "PNG with a transparent grey": lambda: encoded(picture(mode="L"), "PNG", transparency=100),
    "PNG with a transparent colour": lambda: encoded(picture(), "PNG", transparency=(9, 9, 9)),
    "PNG with a gamma": lambda: (
        (content := encoded(picture(), "PNG"))[:33] + chunk(b"gAMA", bytes(4)) + content[33:]
    ),
    "animated PNG": lambda: encoded(
        picture(), "PNG", save_all=True, append_images=[picture(mode="L").convert("RGB")]
    ),
    "GIF": lambda: encoded(picture().quantize(8), "GIF"),
    "BMP": lambda: encoded(picture(), "BMP"),
    "WebP": lambda: encoded(picture(), "WEBP"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("odd", ODD)
def test_odd_files_are_read_as_pillow_reads_them(odd, channels):
    assert_pillows(ODD[odd](), channels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_what_pillow_would_clip_is_refused(kind):
    with pytest.raises(UserError, match=r"^has more than 8 bits .*mode I;16.*: write it with 8"):
        decoding.decode(encoded(sixteen(), kind), 1)
    records = [{"image": encoded(sixteen(), kind), "label": 0}]
    source = examples.Source("set", "train", records, np.zeros(1, int), 1, 3)
    with pytest.raises(UserError, match=r"^example 0 of train of set has more than 8 bits"):
        source[0]


@pytest.mark.parametrize("content", [b"", b"rubbish", decoding.JPEG, decoding.PNG])
def test_rubbish_is_an_error(content):
    with pytest.raises(OSError, match="cannot identify"):
        decoding.decode(content, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cut_anywhere_a_file_is_refused_or_read_as_pillow_does(kind, capfd):
    content = encoded(picture(60, 80), kind)
    for end in [*range(0, len(content) - 20, 97), *range(len(content) - 20, len(content))]:
        try:
            expected = pillows(content[:end], 3)
        except OSError:
            with pytest.raises(OSError, match=r"(?i)truncated|cannot identify"):
                decoding.decode(content[:end], 3)
        else:
            np.testing.assert_array_equal(decoding.decode(content[:end], 3), expected)
    assert capfd.readouterr().err == ""


def test_a_changed_bit_of_a_png_is_left_to_pillow(capfd):
    content = encoded(picture(60, 80), "PNG")
    for at in range(8, len(content), 53):
        changed = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        assert not decoding._plain(changed)
    assert capfd.readouterr().err == ""


def test_huge_images_are_left_to_pillow_which_refuses_them():
    for kind in ("JPEG", "PNG"):
        content = encoded(picture(), kind)
        height, width = (struct.pack(">H" if kind == "JPEG" else ">I", n) for n in (20, 30))
        assert decoding._plain(content)
        if kind == "JPEG":
            changed = content.replace(height + width, b"\xff\xff" * 2)
        else:
            changed = (
                content[:8] + chunk(b"IHDR", b"\0\0\xff\xff" * 2 + content[24:29]) + content[33:]
            )
        assert not decoding._plain(changed)
        with pytest.raises(Image.DecompressionBombError):
            decoding.decode(changed, 3)
