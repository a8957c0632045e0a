"""What masks of levels, replicates, controls and runs have in common, against loops by hand."""

import itertools
import types

import numpy as np
import pytest

from groundwork.errors import UserError
from lottery.overlap import measured, plots
from lottery.overlap.measured import Masks

GENERATOR = np.random.default_rng(0)


def drawn(density):
    shapes = {"fc1/kernel": (64, 5), "output/kernel": (5, 3)}
    return {path: GENERATOR.random(shape) < density for path, shape in shapes.items()}


def jaccard(one, two):
    flat = [np.concatenate([mask[path].ravel() for path in sorted(mask)]) for mask in (one, two)]
    return np.sum(flat[0] & flat[1]) / np.sum(flat[0] | flat[1])


@pytest.fixture(scope="module")
def masks():
    levels = {level: [drawn(0.8**level) for _ in range(3)] for level in (1, 2)}
    run = types.SimpleNamespace(name="mine")
    return Masks(run=run, levels=levels, branches={"random_mask": [drawn(0.6) for _ in range(3)]})


def test_levels_replicates_controls_and_runs_are_compared_with_their_like(masks):
    levels = measured.between_levels(masks).jaccard
    pairs = zip(masks.levels[1], masks.levels[2], strict=True)
    assert levels[0, 1] == pytest.approx(np.mean([jaccard(*pair) for pair in pairs]))
    replicates = measured.between_replicates(masks, 2)
    by_hand = [jaccard(*pair) for pair in itertools.combinations(masks.levels[2], 2)]
    assert measured.pairs_of(replicates)["jaccard"] == pytest.approx(by_hand)
    controls = measured.with_branch(masks, "random_mask").jaccard
    pairs = zip(masks.levels[2], masks.branches["random_mask"], strict=True)
    np.testing.assert_allclose(controls, [jaccard(*pair) for pair in pairs])
    two = Masks(run=masks.run, levels={2: [drawn(0.5), drawn(0.5)], 7: []}, branches={})
    runs = measured.between_runs([masks, two], 2).jaccard
    pairs = zip(masks.levels[2][:2], two.levels[2], strict=True)
    assert runs[1, 0] == pytest.approx(np.mean([jaccard(*pair) for pair in pairs]))
    assert measured.common_levels([masks, two]) == [2]
    fields = measured.layers(masks)["fc1"]
    parts = [{"fc1": mask["fc1/kernel"]} for mask in masks.levels[2]]
    assert fields["jaccard"] == pytest.approx(
        [jaccard(*pair) for pair in itertools.combinations(parts, 2)]
    )


def test_runs_of_different_networks_or_levels_are_refused(masks):
    other = [{"fc1/kernel": np.ones((3, 2), bool)}]
    with pytest.raises(UserError, match="runs of different networks cannot be compared"):
        measured.between_runs([masks, Masks(run=masks.run, levels={2: other}, branches={})], 2)
    with pytest.raises(UserError, match="no level in common"):
        measured.common_levels([masks, Masks(run=masks.run, levels={5: other}, branches={})])


def test_pixels_are_those_of_a_square_image_alone(masks, tmp_path, monkeypatch):
    images = []
    real = plots.figures.grid

    def grid(*args, **kwargs):
        figure, axes = real(*args, **kwargs)
        images.extend(axes)
        return figure, axes

    monkeypatch.setattr(plots.figures, "grid", grid)
    monkeypatch.setattr(plots.figures, "save", lambda figure, path: path)
    assert plots.pixels(masks, tmp_path / "pixels.png")
    kept = np.mean([mask["fc1/kernel"].sum(1) for mask in masks.levels[1]], axis=0)
    np.testing.assert_allclose(images[0].images[0].get_array(), kept.reshape(8, 8))
    assert plots._image(3072) == (32, 32, 3)
    assert plots._image(784) == (28, 28, 1)
    assert plots._image(40) is None
    others = (
        {  # a convolution, and hidden layers of 64 units whose first layer cannot be told
            "conv1/kernel": np.ones((3, 3, 1, 4), bool),
            "fc1/kernel": np.ones((64, 5), bool),
        },
        {
            "body/kernel": np.ones((64, 64), bool),
            "enter/kernel": np.ones((40, 64), bool),
        },
    )
    for mask in others:
        none = Masks(run=masks.run, levels={1: [mask]}, branches={})
        assert plots.pixels(none, tmp_path / "pixels.png") is None
    assert plots._first(others[1]) == "enter/kernel"
