"""Masks against numpy's ranking."""

import jax
import numpy as np
import pytest

from lottery.early_bird import draws

SCORES = {
    "a": np.array([0.1, 0.9, 0.5]),
    "b": np.array([0.2, 0.05, 0.7, 0.5, 0.6]),
}


def ranked(scores, ratio):
    """The lowest go; numpy's stable sort of the reversed array leaves lower indices."""
    values = np.concatenate(list(scores.values()))
    order = len(values) - 1 - np.argsort(values[::-1], kind="stable")
    keep = np.ones(len(values), bool)
    keep[order[: round(ratio * len(values))]] = False
    return dict(zip(scores, np.split(keep, [len(scores["a"])]), strict=True))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.6])
def test_global_channels_are_numpys_ranking(ratio):
    kept, expected = draws.channels(SCORES, ratio), ranked(SCORES, ratio)
    for name in SCORES:
        np.testing.assert_array_equal(kept[name], expected[name])


def test_each_group_keeps_its_best_channel():
    kept = draws.channels({"a": np.array([0.1, 0.2]), "b": np.full(6, 0.9)}, 0.5)
    assert kept["a"].tolist() == [False, True]
    assert kept["b"].tolist() == [True] * 4 + [False] * 2  # ties: lower indices stay


def test_layerwise_takes_the_share_of_each_group():
    kept = draws.channels(SCORES, 0.4, "layerwise")
    assert kept["a"].tolist() == [False, True, True]
    assert kept["b"].tolist() == [False, False, True, True, True]


def test_replicates_share_counts_and_have_their_own_channels():
    other = {"a": np.array([0.8, 0.9, 0.7]), "b": SCORES["b"][::-1].copy()}
    keep = draws.shared_counts([SCORES, other], 0.5, "global")
    mean = {n: (np.sort(SCORES[n]) + np.sort(other[n])) / 2 for n in SCORES}
    expected = draws.channels(mean, 0.5)
    for name, kept in keep.items():
        assert set(kept.sum(1)) == {expected[name].sum()}
        for one, scores in zip(kept, (SCORES[name], other[name]), strict=True):
            assert scores[one].min() >= scores[~one].max(initial=0)
    alone = draws.shared_counts([SCORES], 0.5, "global")
    for name, kept in draws.channels(SCORES, 0.5).items():
        np.testing.assert_array_equal(alone[name][0], kept)


@pytest.mark.parametrize("scope", draws.SCOPES)
def test_weights_are_the_largest(scope):
    rng = np.random.default_rng(0)
    params = {name: {"kernel": rng.normal(size=(4, size))} for name, size in (("a", 3), ("b", 5))}
    params["a"]["bias"] = np.zeros(3)
    kept = draws.weights(jax.tree.map(np.float32, params), 0.6, scope)
    sizes = {f"{name}/kernel": np.abs(params[name]["kernel"]) for name in params}
    assert kept.keys() == sizes.keys()
    parts = [list(sizes)] if scope == "global" else [[name] for name in sizes]
    for part in parts:
        values = np.concatenate([sizes[name].ravel() for name in part])
        least = np.sort(values)[round(0.6 * len(values))]
        for name in part:
            np.testing.assert_array_equal(kept[name], sizes[name] >= least)


def test_shuffled_masks_keep_as_many_of_each_leaf_in_each_replicate():
    rng = np.random.default_rng(1)
    mask = {"a": rng.random((2, 4, 50)) < 0.3, "b": rng.random((2, 30)) < 0.7}
    drawn = draws.shuffled(mask, 5)
    for name, leaf in mask.items():
        counts = [one.reshape(2, -1).sum(1).tolist() for one in (leaf, drawn[name])]
        assert counts[0] == counts[1]
        assert (drawn[name] != leaf).mean() > 0.2
        np.testing.assert_array_equal(draws.shuffled(mask, 5)[name], drawn[name])
    assert (drawn["a"][0] != drawn["a"][1]).any()


@pytest.mark.parametrize(("ratio", "scope"), [(1.0, "global"), (-0.1, "global"), (0.5, "all")])
def test_other_ratios_and_scopes_are_refused(ratio, scope):
    with pytest.raises(ValueError, match=f"ratio={ratio}|scope='all'"):
        draws.channels(SCORES, ratio, scope)
