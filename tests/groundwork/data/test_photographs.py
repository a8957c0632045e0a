"""Crops of photographs that packages have, and a network's answers."""

import numpy as np
import pytest
from PIL import Image

from groundwork import architectures
from groundwork.architectures import pretrained
from groundwork.data import dataset as data_lib
from groundwork.data import photographs
from groundwork.errors import UserError
from tests.compress import archives

FLOWER, CHINA = (f"sklearn/datasets/images/{name}.jpg" for name in ("flower", "china"))
HOPPER = "matplotlib/mpl-data/sample_data/grace_hopper.jpg"
MODEL = {"name": "lenet_5", "width": 0.2}
SECTION = {
    "name": "photographs",
    "source": "photographs",
    "image_size": 28,
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
    "kwargs": {"train": 3, "test": 5, "model": MODEL, "weights": "weights.npz"},
}


@pytest.fixture
def variables(monkeypatch):
    """Drawn ones, in the place of a file's; photographs of what is always installed."""
    shape = (28, 28, 3)
    drawn = archives.drawn(architectures.build(MODEL, 1000), shape)
    monkeypatch.setattr(pretrained, "load", lambda model, weights, classes: drawn)
    monkeypatch.setattr(photographs, "TRAIN", (FLOWER,))
    monkeypatch.setattr(photographs, "TEST", (CHINA, HOPPER))
    return drawn


def test_the_targets_are_the_networks_answers_to_what_it_was_trained_on(variables):
    dataset = data_lib.load(SECTION)
    assert (dataset.examples, dataset.classes) == ({"train": 3, "validation": 0, "test": 5}, 1000)
    inputs = data_lib.normalize(dataset, dataset.test.inputs)
    pixels = dataset.test.inputs.astype("f8")
    np.testing.assert_allclose(inputs, (pixels - 127) / 128, atol=1e-6)
    wanted = architectures.build(MODEL, 1000).apply(variables, np.float32((pixels - 127) / 128))
    np.testing.assert_allclose(dataset.test.labels, wanted, atol=1e-5)


def test_crops_are_bicubic_and_the_same_for_a_seed():
    made = photographs.crops((FLOWER, HOPPER), 6, 16, (0, 1))
    np.testing.assert_array_equal(made[:4], photographs.crops((FLOWER, HOPPER), 4, 16, (0, 1)))
    assert (made != photographs.crops((FLOWER, HOPPER), 6, 16, (0, 2))).any((1, 2, 3)).all()
    image = photographs._opened(FLOWER)
    draw = np.random.default_rng((0, 1))
    left, upper, right, lower = photographs._box(draw, *image.size)
    share = (right - left) * (lower - upper) / (image.width * image.height)
    assert 0.19 < share <= 1
    assert 0.74 < (right - left) / (lower - upper) < 1.35
    cut = image.crop((left, upper, right, lower)).resize((16, 16), Image.Resampling.BICUBIC)
    first = np.asarray(cut)[:, ::-1] if draw.random() < 0.5 else np.asarray(cut)
    np.testing.assert_array_equal(made[0], first)


def test_no_scene_is_in_both_splits():
    assert len(photographs.TEST) >= 4
    scenes = [
        {path.rpartition("/")[2][:6] for path in paths}
        for paths in (photographs.TRAIN, photographs.TEST)
    ]
    assert not scenes[0] & scenes[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_size": 0}, r"needs data\.image_size"),
        ({"dir": "x"}, r"data\.dir has no use"),
        ({"kwargs": {"tests": 3}}, "has no 'tests'"),
        ({"kwargs": {"test": 0}}, "test=0 must be an integer of at least 1"),
        ({"kwargs": {"std": 0}}, "std positive"),
        ({"mean": (0.5,), "std": (0.5,)}, r"data\.mean=\(0\.5,\) has 1 channels, but"),
    ],
)
def test_settings_that_cannot_serve_are_refused(variables, changed, said):
    with pytest.raises(UserError, match=said):
        data_lib.load(SECTION | changed)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install scikit-image$"):
        photographs.crops(("skimage/data/coffee.png",), 1, 8, 0)
