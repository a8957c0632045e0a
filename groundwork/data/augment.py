"""Image transforms on the host, with NumPy, Pillow and OpenCV: uint8 [H, W, C] in and out.

Read `training` and `evaluation` first. Every random choice is drawn from the generator that is
passed in, always in the same order.
"""

# H W C image height, width, channels

import math

import numpy as np
from PIL import Image

from groundwork.data.decoding import opencv

AUGMENTS = ("none", "crop_flip", "resized_crop")
AS_STORED = (0, 0)  # the window that leaves an image as it is
PADDING = 4  # pixels on each side, in crop_flip
AREA = (0.08, 1.0)  # of the image, in resized_crop
RATIO = (3 / 4, 4 / 3)  # width / height of the box, in resized_crop
LOG_RATIO = (math.log(RATIO[0]), math.log(RATIO[1]))
MARGIN = 256 / 224  # shorter side before the central crop / side of the crop, in resized_crop


def training(
    image: np.ndarray,
    rng: np.random.Generator,
    augment: str,
    size: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Returns a training image: [H, W, C] → [size, size, C]; size 0 keeps the stored size.

    `crop_flip` pads by 4 black pixels, crops at random and mirrors half of the images (He et al.,
    arXiv:1512.03385, section 4.2). `resized_crop` crops a box of random area and ratio, scales it
    to `size` and mirrors half of them (Szegedy et al., arXiv:1409.4842, section 6). The result is
    written to `out` if there is one.
    """
    if out is None:
        out = np.empty((size or image.shape[0], size or image.shape[1], image.shape[2]), np.uint8)
    if augment == "resized_crop":
        top, left, height, width = random_box(image.shape[0], image.shape[1], rng)
        image = image[top : top + height, left : left + width]
        if rng.random() < 0.5:
            _mirror(_resize(image, np.empty_like(out)), out)
        else:
            _resize(image, out)
        return out
    image = evaluation(image, augment, size)
    if augment == "crop_flip":
        image = padded_crop(image, rng)
        if rng.random() < 0.5:
            return _mirror(image, out)
    out[...] = image
    return out


def evaluation(image: np.ndarray, augment: str, size: int) -> np.ndarray:
    """Returns an image for evaluation: [H, W, C] → [size, size, C]; size 0 leaves it as stored.

    The shorter side is scaled to `size` (with `resized_crop`, to size × 256 / 224), and the
    centre is cut out.
    """
    return scaled(image, *evaluation_window(augment, size))


def evaluation_window(augment: str, size: int) -> tuple[int, int]:
    """Returns what `scaled` needs for evaluation: the side, and the shorter side before the cut."""
    return size, round(size * MARGIN) if augment == "resized_crop" else size


def training_window(augment: str, size: int) -> tuple[int, int]:
    """Returns that part of a training image's transformation which is the same in every epoch.

    `training` of an image that was `scaled` to it is `training` of the image.
    """
    return AS_STORED if augment == "resized_crop" else evaluation_window(augment, size)


def scaled(image: np.ndarray, size: int, shorter: int) -> np.ndarray:
    """Returns the `central_crop` of an image, or with size 0 the image."""
    return central_crop(image, size, shorter) if size else image


def padded_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random window, as large as the image, of the image with a black border."""
    height, width, _ = image.shape
    padded = np.zeros((height + 2 * PADDING, width + 2 * PADDING, image.shape[2]), np.uint8)
    padded[PADDING : PADDING + height, PADDING : PADDING + width] = image  # np.pad takes 70 µs
    top, left = rng.integers(0, 2 * PADDING + 1, 2)
    return padded[top : top + height, left : left + width]


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns top, left, height and width, in pixels, of a box in an image.

    Its share of the image's area is uniform in `AREA`, and its ratio is log-uniform in `RATIO`. If
    ten draws do not fit, as in very long images, it is the largest central box with such a ratio.
    """
    for _ in range(10):
        area = _uniform(AREA, rng) * height * width
        ratio = math.exp(_uniform(LOG_RATIO, rng))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return top, left, h, w
    h, w = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def central_crop(image: np.ndarray, size: int, shorter: int) -> np.ndarray:
    """Scales the shorter side to `shorter` pixels, then cuts out the central [size, size, C]."""
    height, width, _ = image.shape
    scale = shorter / min(height, width)
    image = _scaled(image, round(height * scale), round(width * scale))
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _scaled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scales bilinearly; a pixel of a smaller image averages all that it covers."""
    if image.shape[:2] == (height, width):
        return image
    pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    scaled = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
    return scaled.reshape(height, width, -1)


def _uniform(between: tuple[float, float], rng: np.random.Generator) -> float:
    """Returns `rng.uniform`, which takes ten times as long to read its arguments."""
    return between[0] + (between[1] - between[0]) * rng.random()


def _resize(image: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Scales an image to the size of `out`, where it is written, in a sixth of Pillow's time.

    An image that is twice as large or larger is first shrunk by a whole number, by averages; what
    remains is bilinear interpolation. Departs: Pillow averages when it shrinks by less than 2, too,
    and leaves no rows and columns out; here those that are left over go, fewer than that number.
    """
    cv2 = opencv()
    height, width = out.shape[:2]
    factor = min(image.shape[0] // height, image.shape[1] // width)
    if factor > 1:
        h, w = image.shape[0] // factor, image.shape[1] // factor
        whole = image[: h * factor, : w * factor]  # OpenCV averages others ten times as slowly
        image = cv2.resize(whole, (w, h), interpolation=cv2.INTER_AREA)
    cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return out


def _mirror(image: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Writes the mirror image to `out`, several times as fast as NumPy does."""
    opencv().flip(image, 1, dst=out)
    return out
