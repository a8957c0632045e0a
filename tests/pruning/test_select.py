"""`pruning.select` against a plain Python sort, hand-worked cases and published numbers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import masks, select
from tests.pruning.small import KEEPS, SHAPES, SIZE, same, unflatten

RATES = {
    "one rate": 0.5,
    "mapping": {"*": 0.3, "a/bias": 0.5, "net/*": 0.1},
}
MODES = {
    "eager": lambda f: lambda m, s: _stack([f(_at(m, r), _at(s, r)) for r in range(R)]),
    "jit": lambda f: _each(jax.jit(f)),
    "vmap": jax.vmap,
    "jit(vmap)": lambda f: jax.jit(jax.vmap(f)),
}
R = 3  # replicates
SPECIAL = [-math.inf, math.nan, -1.0, -0.0, 0.0, 0.5, 1.0, math.inf]
SCORE = st.sampled_from(SPECIAL) | st.floats(-9, 9, width=32, allow_subnormal=False)
SCORES = st.lists(SCORE, min_size=SIZE, max_size=SIZE)


def _at(tree, replicate):
    return {path: leaf[replicate] for path, leaf in tree.items()}


def _stack(trees):
    return {path: jnp.stack([tree[path] for tree in trees]) for path in trees[0]}


def _each(f):
    return lambda m, s: _stack([f(_at(m, r), _at(s, r)) for r in range(R)])


def _layer(path):
    return path.rsplit("/", 1)[0]


def reference(mask, scores, layer_rates, scope):
    """Plain Python: list the kept (score, position), sort, keep the first of them."""
    groups = {}
    for path in sorted(mask):
        rate = layer_rates[_layer(path)]
        groups.setdefault(_layer(path) if scope == "layerwise" else rate, []).append(path)
    new = {path: np.zeros_like(leaf) for path, leaf in mask.items()}
    for paths in groups.values():
        entries = [(p, i) for p in paths for i in np.ndindex(mask[p].shape) if mask[p][i]]
        value = {e: float(scores[e[0]][e[1]]) for e in entries}
        best = sorted(entries, key=lambda e: math.inf if math.isnan(value[e]) else -value[e])
        rate = layer_rates[_layer(paths[0])]
        for path, index in best[: len(entries) - round(rate * len(entries))]:
            new[path][index] = True
    return new


def layer_rates(rate):
    """What the mapping of RATES says, written out by hand."""
    if isinstance(rate, float):
        return dict.fromkeys(map(_layer, SHAPES), rate)
    return {"a": 0.5, "net/conv": 0.1, "scale": 0.3}


def nested(inner, outer):
    return all(not np.any(np.asarray(inner[p]) & ~np.asarray(outer[p])) for p in outer)


# --- prune against the plain sort


@given(KEEPS, SCORES, st.floats(0, 1), st.sampled_from(select.SCOPES))
def test_prune_equals_a_plain_sort_and_never_revives(keep, score, rate, scope):
    mask, scores = unflatten(keep, bool), unflatten(score, np.float32)
    new = select.prune(mask, scores, rate, scope)
    same(new, reference(mask, scores, layer_rates(rate), scope))
    assert nested(new, mask)


@given(KEEPS, SCORES, st.sampled_from(select.SCOPES))
def test_prune_with_a_mapping_equals_a_plain_sort(keep, score, scope):
    mask, scores = unflatten(keep, bool), unflatten(score, np.float32)
    new = select.prune(mask, scores, RATES["mapping"], scope)
    same(new, reference(mask, scores, layer_rates(RATES["mapping"]), scope))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("scope", "rate"), [("layerwise", "mapping"), ("global", "one rate")])
def test_levels_of_replicates_are_nested_and_exact_under_every_transformation(scope, rate, mode):
    prune = MODES[mode](functools.partial(select.prune, rate=RATES[rate], scope=scope))
    rng = np.random.default_rng(7)
    mask = {path: np.ones((R, *shape), bool) for path, shape in SHAPES.items()}
    for _level in range(3):
        flat = rng.normal(size=(R, SIZE))
        flat[rng.random(flat.shape) < 0.3] = rng.choice(SPECIAL)  # ties, infinities, NaN
        scores = _stack([unflatten(row, np.float32) for row in flat])
        new = prune(mask, scores)
        want = [
            reference(_at(mask, r), _at(scores, r), layer_rates(RATES[rate]), scope)
            for r in range(R)
        ]
        same(new, {path: np.stack([w[path] for w in want]) for path in SHAPES})
        assert nested(new, mask)
        mask = {path: np.asarray(leaf) for path, leaf in new.items()}


@pytest.mark.parametrize("mode", ["eager", "jit", "vmap", "jit(vmap)"])
def test_counts_are_pythons_round_of_the_float64_product(mode):
    rates = {"l1": 0.1, "l3": 0.3, "l35": 0.35, "l5": 0.5, "l7": 0.7}
    prune = functools.partial(select.prune, rate=rates)
    keep = np.tri(200, 199, -1, dtype=bool)  # row k: k kept
    # 45 · 0.7, 90 · 0.35, 95 · 0.3: a float32 product would round the other way
    counts = [0, 1, 5, 7, 15, 25, 45, 90, 95] if mode in ("eager", "jit") else range(200)
    mask = {f"{layer}/kernel": keep[list(counts)] for layer in rates}
    scores = {path: np.zeros(199, np.float32) for path in mask}
    if mode in ("eager", "jit"):
        function = jax.jit(prune) if mode == "jit" else prune
        new = _stack([function(_at(mask, k), scores) for k in range(len(counts))])
    else:
        function = jax.vmap(prune, in_axes=(0, None))
        new = (jax.jit(function) if "jit" in mode else function)(mask, scores)
    for layer, rate in rates.items():
        got = np.sum(np.asarray(new[f"{layer}/kernel"]), axis=-1)
        assert got.tolist() == [k - round(rate * k) for k in counts], layer


@pytest.mark.parametrize(
    ("rate", "before", "after"),
    [(0.5, 5, 3), (0.5, 7, 3), (0.1, 5, 5), (0.1, 15, 13), (0.3, 5, 3), (0.2, 10, 8), (0.5, 1, 1)],
)
def test_halves_round_to_even(rate, before, after):
    new = select.prune({"w": np.arange(25) < before}, {"w": np.arange(25.0)}, rate)
    assert int(np.sum(new["w"])) == after


@pytest.mark.parametrize("worst", [-1.0, -math.inf, math.nan, 0.0])
def test_pruned_weights_stay_pruned_however_bad_the_kept_ones(worst):
    mask = {"w": np.arange(12) % 2 == 0}
    scores = {"w": np.tile(np.float32([worst, math.inf, worst, 9, worst, math.nan]), 2)}
    for rate, want in [(0, [0, 2, 4, 6, 8, 10]), (1 / 3, [0, 2, 4, 6]), (2 / 3, [0, 2]), (1, [])]:
        assert np.flatnonzero(select.prune(mask, scores, rate)["w"]).tolist() == want


def test_nan_ranks_below_every_finite_score():
    scores = {"w": np.array([math.nan, -3e38, 0.0, math.nan], np.float32)}
    assert select.prune({"w": np.ones(4, bool)}, scores, 0.5)["w"].tolist() == [0, 1, 1, 0]


def test_kernel_and_bias_of_a_layer_are_ranked_together():
    scores = {
        "a/bias": np.float32([5, 6, 9, 4]),
        "a/kernel": np.float32([[1, 7, 0, -1], [2, 3, 8, -5]]),
        "b/kernel": np.arange(12, dtype=np.float32),
    }
    new = select.prune({path: np.ones(s.shape, bool) for path, s in scores.items()}, scores, 0.5)
    want = {
        "a/bias": np.ones(4, bool),
        "a/kernel": np.array([[0, 1, 0, 0], [0, 0, 1, 0]], bool),
        "b/kernel": np.arange(12) >= 6,
    }
    same(new, want)


def test_global_equals_a_sort_of_the_concatenated_scores():
    rng = np.random.default_rng(0)
    scores = unflatten(rng.normal(size=SIZE), np.float32)
    flat = np.concatenate([scores[path].ravel() for path in sorted(scores)])
    want = np.zeros(SIZE, bool)
    want[np.argsort(-flat, kind="stable")[: SIZE - round(0.4 * SIZE)]] = True
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    same(select.prune(mask, scores, 0.4, "global"), unflatten(want, bool))


def test_global_with_two_rates_ranks_the_layers_of_each_rate_together():
    scores = {name: np.array(s) for name, s in {"a": [1, 2], "b": [9, 9], "c": [3, 4]}.items()}
    mask = {path: np.ones(2, bool) for path in scores}
    new = select.prune(mask, scores, {"*": 0.5, "b": 0}, "global")
    assert {path: leaf.tolist() for path, leaf in new.items()} == {
        "a": [False, False],
        "b": [True, True],
        "c": [True, True],
    }


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
@pytest.mark.parametrize("value", [0.0, -2.0, math.nan, math.inf, -math.inf])
def test_ties_keep_the_lower_index(value, transform):
    prune = transform(functools.partial(select.prune, rate=0.5, scope="global"))
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    new = prune(mask, {path: np.full(shape, value, "f4") for path, shape in SHAPES.items()})
    same(new, unflatten(np.arange(SIZE) < SIZE - round(0.5 * SIZE), bool))


def test_a_negative_zero_ties_with_zero():
    scores = {"w": np.array([-0.0, 0.0, -0.0, 0.0], np.float32)}
    assert select.prune({"w": np.ones(4, bool)}, scores, 0.5)["w"].tolist() == [1, 1, 0, 0]


def test_ties_follow_the_order_of_paths_where_layers_are_nested_in_layers():
    paths = ["a/bias", "a/c/kernel", "a/kernel"]  # sorted; the layers are a, a/c, a
    mask = {path: np.ones(2, bool) for path in paths}
    new = select.prune(mask, {path: np.zeros(2) for path in paths}, 1 / 3, "global")
    assert [new[path].tolist() for path in paths] == [[True] * 2, [True] * 2, [False] * 2]


@pytest.mark.parametrize("scope", select.SCOPES)
def test_rate_0_keeps_all_and_rate_1_nothing(scope):
    rng = np.random.default_rng(1)
    mask = unflatten(rng.random(SIZE) < 0.5, bool)
    scores = unflatten(rng.normal(size=SIZE), np.float32)
    same(select.prune(mask, scores, 0, scope), mask)
    none = select.prune(mask, scores, 1, scope)
    same(none, {path: np.zeros(shape, bool) for path, shape in SHAPES.items()})
    same(select.prune(none, scores, 0.5, scope), none)  # an empty layer does not raise


@pytest.mark.parametrize("scope", select.SCOPES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_leaves_without_entries_do_not_raise(transform, scope):
    prune = transform(functools.partial(select.prune, rate=0.5, scope=scope))
    mask = {"a/kernel": np.ones((0, 3), bool), "b/kernel": np.ones(2, bool)}
    new = prune(mask, {path: np.zeros(leaf.shape) for path, leaf in mask.items()})
    same(new, {"a/kernel": np.ones((0, 3), bool), "b/kernel": np.array([True, False])})
    assert prune({}, {}) == {}


# --- rates by pattern


@pytest.mark.parametrize(
    ("rate", "want"),
    [
        ({"*": 0.2, "output": 0.1}, {"conv1": 10, "conv2": 10, "output": 11}),
        ({"output": 0.1, "*": 0.2}, {"conv1": 10, "conv2": 10, "output": 11}),
        ({"*": 0.2, "conv*": 0.5, "conv2": 0.3}, {"conv1": 6, "conv2": 8, "output": 10}),
        ({"*": 0.2, "conv2": 0.3, "conv2/kernel": 0}, {"conv1": 10, "conv2": 12, "output": 10}),
        ({"*/kernel": 0.4, "*": 0.2}, {"conv1": 7, "conv2": 7, "output": 7}),
        ({"conv[12]": 1.0, "output": 0}, {"conv1": 0, "conv2": 0, "output": 12}),
        ({"conv1": 0.1, "*": 0.3, "out*": 0.5}, {"conv1": 11, "conv2": 8, "output": 6}),
    ],
)
def test_the_longest_matching_pattern_counts(rate, want):
    mask = {f"{layer}/kernel": np.ones(12, bool) for layer in want}
    new = select.prune(mask, {path: np.arange(12.0) for path in mask}, rate)
    assert {layer: int(n) for layer, n in masks.kept(new).items()} == want


def test_a_pattern_that_matches_one_leaf_of_a_layer_is_the_rate_of_the_layer():
    mask = {"fc/bias": np.ones(4, bool), "fc/kernel": np.ones((2, 4), bool)}
    new = select.prune(mask, {p: np.zeros(m.shape) for p, m in mask.items()}, {"fc/bias": 0.5})
    assert int(masks.kept(new)["fc"]) == 6


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"fc1": 0.2}, "no rate for layer 'fc2'"),
        ({}, "no rate for layer 'fc1'"),
        ({"*": 0.2, "fc3": 0.1}, "'fc3' matches none of fc1, fc2"),
        ({"*": 0.2, "FC1": 0.1}, "'FC1' matches none"),
        ({"*": 0.2, "fc1": 1.5}, r"rate 1.5 of 'fc1' is outside \[0, 1\]"),
        (-0.1, "rate -0.1"),
        (1.001, "rate 1.001"),
        (math.nan, "rate nan"),
    ],
)
def test_bad_rates_are_refused_by_name(rate, message):
    mask = {"fc1/kernel": np.ones(4, bool), "fc2/kernel": np.ones(4, bool)}
    with pytest.raises(ValueError, match=message):
        select.prune(mask, {path: np.zeros(4) for path in mask}, rate)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": np.zeros(3)}, r"differ in the paths \['b'\]"),
        ({"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(2)}, r"differ in the paths \['c'\]"),
        ({"a": np.zeros(3), "c": np.zeros(2)}, r"differ in the paths \['b', 'c'\]"),
        ({"a": np.zeros(3), "b": np.zeros((2, 1))}, r"'b' have shape \(2, 1\), the mask \(2,\)"),
        ({"a": np.zeros(()), "b": np.zeros(2)}, r"'a' have shape \(\), the mask \(3,\)"),
    ],
)
def test_scores_of_other_paths_or_shapes_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        select.prune({"a": np.ones(3, bool), "b": np.ones(2, bool)}, scores, 0.5)


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match=r"unknown scope 'layers' .*layerwise, global"):
        select.prune({"a": np.ones(3, bool)}, {"a": np.zeros(3)}, 0.5, "layers")


# --- prune_to


def test_one_compiled_prune_to_serves_every_level():
    paths = {"all": ("a/bias", "a/kernel")}  # what is in no group stays whole
    traces = []

    @jax.jit
    def prune_to(mask, scores, counts):
        traces.append(1)
        return select.prune_to(mask, scores, counts, paths)

    rng = np.random.default_rng(2)
    scores = unflatten(rng.normal(size=SIZE), np.float32)
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    for count, left in [(20, 12), (8, 8), (8, 8), (0, 0), (4, 0)]:  # never more than before
        new = prune_to(mask, scores, {"all": jnp.int32(count)})
        assert int(np.sum(new["a/bias"]) + np.sum(new["a/kernel"])) == left
        assert all(np.all(new[path]) for path in ("net/conv/kernel", "scale"))
        assert nested(new, mask)
        mask = new
    assert len(traces) == 1


def test_repeated_pruning_of_lenet_300_100_gives_the_papers_densities():
    """Per cent of weights remaining in Frankle & Carbin, arXiv:1803.03635, Figures 3 and 4."""
    shapes = {"fc1": (784, 300), "fc2": (300, 100), "output": (100, 10)}
    mask = {f"{layer}/kernel": np.ones(shape, bool) for layer, shape in shapes.items()}
    prune = jax.jit(functools.partial(select.prune, rate={"*": 0.2, "output": 0.1}))
    rng = np.random.default_rng(3)
    labels = {3: 51.3, 7: 21.1}
    for level in range(1, 8):
        mask = prune(mask, {p: rng.random(leaf.shape, np.float32) for p, leaf in mask.items()})
        if level in labels:
            assert round(100 * float(masks.density(mask)), 1) == labels[level], level
