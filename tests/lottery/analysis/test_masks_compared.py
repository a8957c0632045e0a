"""Distances of masks against SciPy's, hand counts and drawn masks."""

import numpy as np
import pytest
from scipy.spatial import distance

from lottery import analysis

GENERATOR = np.random.default_rng(0)
SHAPES = {"fc1/bias": (5,), "fc1/kernel": (40, 5), "fc2/kernel": (5, 30)}


def drawn(density):
    return {path: GENERATOR.random(shape) < density for path, shape in SHAPES.items()}


def flat(mask):
    return np.concatenate([mask[path].ravel() for path in SHAPES])


def test_distances_are_scipys():
    masks = [drawn(density) for density in (0.5, 0.2, 0.7)]
    both = analysis.matrix(masks)
    for i, one in enumerate(masks):
        for j, two in enumerate(masks):
            found = analysis.overlap(one, two)
            assert found.hamming == pytest.approx(distance.hamming(flat(one), flat(two)))
            assert found.jaccard == pytest.approx(1 - distance.jaccard(flat(one), flat(two)))
            for name in found._fields:
                assert getattr(both, name)[i, j] == pytest.approx(getattr(found, name))


def test_a_hand_count():
    one = {"a/kernel": np.array([True, True, False, False]), "b/kernel": np.array([True, True])}
    two = {"a/kernel": np.array([True, False, True, True]), "b/kernel": np.array([True, True])}
    found = analysis.overlap(one, two)
    hamming, jaccard, chance = found
    assert (hamming, jaccard) == (3 / 6, 3 / 6)
    expected = 2 * 3 / 4 + 2 * 2 / 2  # weights that both keep; over all, 4 · 5 / 6 would be fewer
    assert chance == expected / (4 + 5 - expected)
    assert analysis.matrix([one, two]).chance_hamming[1, 0] == (4 + 5 - 2 * expected) / 6
    nested = [{layer: {"kernel": mask[f"{layer}/kernel"]} for layer in "ab"} for mask in (one, two)]
    assert analysis.overlap(*nested) == found
    layers = analysis.by_layer(one, two)
    assert (layers["a"].jaccard, layers["b"].jaccard, layers["b"].hamming) == (0.25, 1, 0)


def test_chance_is_what_random_masks_of_the_same_layers_give():
    one, two = ({**drawn(0.1), "fc2/kernel": drawn(0.9)["fc2/kernel"]} for _ in range(2))
    layers = {"fc1": ("fc1/bias", "fc1/kernel"), "fc2": ("fc2/kernel",)}
    hamming, jaccard = [], []
    for _ in range(300):
        pair = []
        for mask in (one, two):
            parts = [np.concatenate([mask[p].ravel() for p in paths]) for paths in layers.values()]
            pair.append(np.concatenate([GENERATOR.permutation(part) for part in parts]))
        hamming.append(distance.hamming(*pair))
        jaccard.append(1 - distance.jaccard(*pair))
    dense = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    found = analysis.matrix([one, two, dense])
    assert found.chance_hamming[0, 1] == pytest.approx(np.mean(hamming), abs=0.006)
    assert found.chance[0, 1] == pytest.approx(np.mean(jaccard), abs=0.006)
    assert found.jaccard[2] == pytest.approx(found.chance[2])
    assert found.hamming[2] == pytest.approx(found.chance_hamming[2])


def test_masks_that_keep_nothing_are_alike():
    none = {"a/kernel": np.zeros(3, bool)}
    assert analysis.overlap(none, none) == (0, 1, 1)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"b": np.ones(2, bool)}, "different networks: one alone has a"),
        ({"a": np.ones(3, bool)}, r"have shapes \(2,\) and \(3,\)"),
        ({"a": np.ones(2)}, "must be bool, not float64"),
        ({}, "different networks"),
    ],
)
def test_masks_of_other_networks_are_refused(other, said):
    with pytest.raises(ValueError, match=said):
        analysis.overlap({"a": np.ones(2, bool)}, other)
    with pytest.raises(ValueError, match=said):
        analysis.matrix([{"a": np.ones(2, bool)}, other])
