"""Handwritten digits on canvases, to be detected: boxes and classes. Read `read_canvases` first.

Worker processes import this module's room: it does without JAX.
"""

# N canvases, M digits of a canvas at most, S side of a canvas

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from groundwork.data import readers
from groundwork.data.own import Arrays, Given, check_kwargs
from groundwork.devices import memory
from groundwork.errors import UserError

DEFAULTS = {"examples": 2000, "test_examples": 500, "objects": 4, "seed": 0}
SIDE = 64  # of a canvas, in pixels
LEAST_SIDE = 32
SIZES = (0.2, 0.45)  # of a digit's square, as shares of the canvas's side
INK = 64  # the least value of a pixel that a box must hold
NOISE = 48  # the largest value of the background
TOUCHING = 0.05  # the largest share of a digit's box that an earlier one may cover
TRIES = 20  # places of a digit that are tried


def read_canvases(name: str, folder: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Returns canvases [N, S, S, 1] uint8 of scikit-learn's digits, and where which digit is.

    A canvas has 1 to `objects` digits, each scaled by 2 to 3.6 (at 64 pixels) and put where it
    hardly covers another, on a background of noise. Test canvases show the last 297 digits, which
    other people wrote, and training canvases the first 1,500. Targets are [N, M, 5] float32: a
    digit's box, as `groundwork.detection` has it, just around its ink, and its class, 0 to 9; a
    class of −1 says that there is none.

    Args:
      name: of the data set.
      folder: is not read.
      kwargs: `examples` and `test_examples`, the numbers of canvases; `objects`, M; and `seed`,
        from which all is drawn: an equal one gives equal canvases.
      image_size: S, at least 32; 0 = 64.

    Raises:
      UserError: a setting is unknown, or no integer in its range.
    """
    del name, folder
    check_kwargs("digit_canvases", kwargs, tuple(DEFAULTS))
    settings = {**DEFAULTS, **kwargs}
    for key, value in settings.items():
        least = 0 if key == "seed" else 1
        if type(value) is not int or value < least:
            raise UserError(f"data.kwargs: {key}={value!r} must be an integer from {least}")
    side = image_size or SIDE
    if side < LEAST_SIDE:
        raise UserError(f"data.image_size={image_size} must be at least {LEAST_SIDE} for canvases")
    counts = (settings["examples"], settings["test_examples"])
    memory.check("data.kwargs of digit_canvases", sum(counts) * side**2)
    train, test, classes = readers.read_digits("digits", "")
    made, other = [
        _canvases(digits, count, side, settings["objects"], [settings["seed"], split])
        for split, (digits, count) in enumerate(zip((train, test), counts, strict=True))
    ]
    return Given(made, other, classes=classes)


def _canvases(digits: Arrays, count: int, side: int, objects: int, seed: list[int]) -> Arrays:
    draw = np.random.default_rng(seed)
    images = draw.integers(0, NOISE + 1, (count, side, side, 1)).astype(np.uint8)
    truths = np.zeros((count, objects, 5), np.float32)
    truths[..., 4] = -1
    for image, rows in zip(images, truths, strict=True):
        placed = _placed(digits, side, int(draw.integers(1, objects + 1)), draw)
        for row, (ink, top, left, label) in zip(rows, placed, strict=False):
            height, width = ink.shape
            part = image[top : top + height, left : left + width, 0]
            np.maximum(part, ink, out=part)
            row[:] = left + width / 2, top + height / 2, width, height, label
    return images, truths


def _placed(
    digits: Arrays, side: int, count: int, draw: np.random.Generator
) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Yields the ink, its top and left and the class of digits, as far as there is room."""
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(count):
        chosen = int(draw.integers(len(digits[1])))
        ink = _scaled(digits[0][chosen, :, :, 0], round(side * draw.uniform(*SIZES)))
        height, width = ink.shape
        for _ in range(TRIES):
            top = int(draw.integers(side - height + 1))
            left = int(draw.integers(side - width + 1))
            box = (top, left, top + height, left + width)
            if all(_covered(box, other) <= TOUCHING for other in taken):
                taken.append(box)
                yield ink, top, left, int(digits[1][chosen])
                break


def _scaled(digit: np.ndarray, side: int) -> np.ndarray:
    """Returns a digit scaled to a square, cut to its ink."""
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    rows, columns = (np.flatnonzero((pixels >= INK).any(axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _covered(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Returns the largest share of either box (top, left, bottom, right) that both have."""
    high = min(first[2], second[2]) - max(first[0], second[0])
    wide = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(0, high) * max(0, wide) / min(areas)
