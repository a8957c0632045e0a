"""Distances against scipy; the detector against a brute force and sequences made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

import lottery
from lottery.early_bird import detect, distances


def test_the_public_names_are_these():
    assert lottery.early_bird.detect is detect
    assert set(lottery.early_bird.__all__) == {"detect", "distances"}


def test_distances_are_scipys_over_all_leaves():
    rng = np.random.default_rng(0)
    masks = [{"b/kernel": rng.random((3, 4)) < 0.5, "a": rng.random(7) < 0.3} for _ in range(5)]
    rows = [np.concatenate([mask["b/kernel"].ravel(), mask["a"]]) for mask in masks]
    expected = distance.squareform(distance.pdist(np.asarray(rows), "hamming"))
    np.testing.assert_allclose(distances(masks), expected, rtol=1e-12)
    np.testing.assert_allclose(distances(np.asarray(rows)), expected, rtol=1e-12)
    nested = [{"b": {"kernel": mask["b/kernel"]}, "a": mask["a"]} for mask in masks]
    np.testing.assert_allclose(distances(nested), expected, rtol=1e-12)


def test_kept_and_pruned_entries_both_count():
    one, two = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    np.testing.assert_array_equal(distances([one, two]), [[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([], "no masks"),
        ([{}], "no entries"),
        ([np.zeros(3)], "must be bool"),
        ([np.zeros(3, bool), np.zeros(4, bool)], r"mask 1 is \[4\], but mask 0 is \[3\]"),
        ([{"a": np.zeros(3, bool)}, {"b": np.zeros(3, bool)}], r"mask 1 is b\[3\]"),
    ],
)
def test_what_is_no_masks_of_one_network_is_refused(masks, said):
    with pytest.raises(ValueError, match=said):
        distances(masks)


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0.05] * 5, 4),
        ([0.05] * 4, None),
        ([0.3, 0.2, 0.09, 0.08, 0.05, 0.04, 0.03, 0.02], 6),
        ([0.05, 0.05, 0.05, 0.05, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05], 9),  # 0.1 is not below
        ([0.05] * 4 + [np.nan] + [0.05] * 5, 9),
        ([0.0] * 20, 4),
        ([], None),
    ],
)
def test_the_detector_fires_when_the_last_five_are_below(values, index):
    assert detect(values) == index


@given(st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.2])), st.integers(1, 4))
def test_the_detector_is_a_brute_force(values, patience):
    windows = range(patience, len(values) + 1)
    full = [end - 1 for end in windows if max(values[end - patience : end]) < 0.1]
    assert detect(values, 0.1, patience) == (full[0] if full else None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([[0.1]],), r"of a matrix of `distances`, give np.diagonal"),
        (([0.1], 0), "threshold=0 must be above 0"),
        (([0.1], 0.1, 0), "patience=0 must be at least 1"),
    ],
)
def test_what_cannot_be_detected_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        detect(*arguments)
