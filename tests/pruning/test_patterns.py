"""N:M and block masks against plain loops, group by group and block by block."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.traced import reach
from pruning import patterns

RNG = np.random.default_rng(0)


def scores_of(*shape):
    """Few different values, so that many are equal, and some −∞ or NaN."""
    values = RNG.integers(0, 4, shape).astype(np.float32)
    values[RNG.random(shape) < 0.2] = -np.inf
    values[RNG.random(shape) < 0.2] = np.nan
    return values


def best(scores, count, keep=None):
    """Places of the best of a vector: a plain sort. Kept ones first, then no NaN, then by score."""
    keep = np.ones(len(scores), bool) if keep is None else keep
    order = sorted(
        range(len(scores)),
        key=lambda i: (not keep[i], np.inf if np.isnan(scores[i]) else -scores[i]),
    )
    return [i for i in order[:count] if keep[i]]


def n_m_by_hand(scores, n, m, axis, keep=None):
    mask = np.zeros(scores.shape, bool)
    keep = np.ones(scores.shape, bool) if keep is None else keep
    moved, kept, out = (np.moveaxis(leaf, axis, -1) for leaf in (scores, keep, mask))  # views
    for lead in np.ndindex(moved.shape[:-1]):
        for first in range(0, moved.shape[-1], m):
            span = slice(first, first + m)
            out[lead][[first + i for i in best(moved[lead][span], n, kept[lead][span])]] = True
    return mask


def blocks_by_hand(scores, shape, density, keep=None):
    rows, columns = shape
    keep = np.ones(scores.shape, bool) if keep is None else keep
    places, sums, left = [], [], []
    for *lead, i, o in np.ndindex(
        *scores.shape[:-2], scores.shape[-2] // rows, scores.shape[-1] // columns
    ):
        place = (
            *lead,
            slice(i * rows, i * rows + rows),
            slice(o * columns, o * columns + columns),
        )
        places.append(place)
        sums.append(scores[place][keep[place]].sum())
        left.append(keep[place].any())
    mask = np.zeros(scores.shape, bool)
    for chosen in best(np.array(sums), round(density * len(places)), np.array(left)):
        mask[places[chosen]] = True
    return mask & keep


@pytest.mark.parametrize(
    ("shape", "n", "m", "axis"),
    [((8, 3), 2, 4, -2), ((2, 3, 16, 2), 4, 8, -2), ((3, 8), 1, 4, 1), ((8,), 3, 4, 0)],
)
def test_n_m_keeps_the_best_of_every_group(shape, n, m, axis):
    scores = scores_of(*shape)
    mask = np.asarray(patterns.n_m(scores, n, m, axis))
    np.testing.assert_array_equal(mask, n_m_by_hand(scores, n, m, axis))
    groups = np.moveaxis(mask, axis, -1).reshape(-1, m)
    assert (groups.sum(1) == n).all()


@pytest.mark.parametrize(
    ("shape", "block", "density"),
    [((4, 8), (1, 4), 0.35), ((2, 8, 4), (4, 4), 0.5), ((3, 3, 4, 4), (2, 4), 0.25)],
)
def test_blocks_go_whole_and_are_counted_exactly(shape, block, density):
    scores = scores_of(*shape)
    mask = np.asarray(patterns.blocks(scores, block, density))
    np.testing.assert_array_equal(mask, blocks_by_hand(scores, block, density))
    size = block[0] * block[1]
    assert mask.sum() == size * round(density * scores.size / size)


def test_dicts_are_pruned_path_by_path_each_along_its_axis():
    scores = {"a/kernel": scores_of(8, 3), "b/weight": scores_of(3, 4)}
    made = patterns.n_m(scores, 2, 4, {"a/kernel": 0, "b/weight": 1})
    for path, axis in (("a/kernel", 0), ("b/weight", 1)):
        np.testing.assert_array_equal(made[path], n_m_by_hand(scores[path], 2, 4, axis))
    made = patterns.blocks({"a/kernel": scores["a/kernel"]}, (4, 1), 0.5)
    np.testing.assert_array_equal(made["a/kernel"], blocks_by_hand(scores["a/kernel"], (4, 1), 0.5))


def test_a_mask_is_pruned_to_a_pattern_and_what_does_not_fit_is_named():
    shapes = {"conv/kernel": (3, 3, 1, 8), "fc/bias": (8,), "fc/kernel": (8, 8), "out": (8, 10)}
    keep = {path: RNG.random(shape) < 0.6 for path, shape in shapes.items()}
    scores = {path: scores_of(*shape) for path, shape in shapes.items()}
    two = {"replicate": keep, "other": {path: ~leaf for path, leaf in keep.items()}}
    stacked = {p: jnp.stack([two["replicate"][p], two["other"][p]]) for p in keep}
    twice = {p: jnp.stack([scores[p]] * 2) for p in keep}

    pruned, left = patterns.prune_to("2:4", keep, scores)
    assert left == {
        "conv/kernel": "4 does not divide the 1 entries of axis -2",
        "fc/bias": "shape (8,) has no axis -2 of inputs",
    }
    for path in ("fc/kernel", "out"):
        expected = n_m_by_hand(scores[path], 2, 4, 0, keep[path])
        np.testing.assert_array_equal(pruned[path], expected)
    for path in left:
        np.testing.assert_array_equal(pruned[path], keep[path])

    prune = jax.jit(jax.vmap(lambda m, s: patterns.prune_to("4x4", m, s, 0.5)[0]))
    pruned = prune(stacked, twice)
    left = patterns.unfit("4x4", keep)
    assert left.keys() == {"conv/kernel", "fc/bias", "out"}
    for index, mask in enumerate(two.values()):
        expected = blocks_by_hand(scores["fc/kernel"], (4, 4), 0.5, mask["fc/kernel"])
        np.testing.assert_array_equal(pruned["fc/kernel"][index], expected)
        np.testing.assert_array_equal(pruned["out"][index], mask["out"])


@pytest.mark.parametrize(("shape", "axis"), [((6, 5), -2), ((5, 6), 1), ((2, 2, 3, 4), -2)])
def test_as_many_weights_of_each_output_are_kept(shape, axis):
    scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    dense = {"fc": np.ones(shape, bool)}
    mask, left = patterns.prune_to("output", dense, {"fc": scores}, 0.4, axis)
    assert not left
    outputs = scores.T if axis == 1 else scores.reshape(-1, shape[-1])  # [I, O]
    kept = np.asarray(mask["fc"].T if axis == 1 else mask["fc"].reshape(-1, shape[-1]))
    for column, chosen in zip(outputs.T, kept.T, strict=True):
        count = round(0.4 * len(column))
        assert set(np.flatnonzero(chosen)) == set(np.argsort(-column)[:count])
    _, left = patterns.prune_to(
        "output",
        {**dense, "b": np.ones(3, bool)},
        {"fc": scores, "b": np.ones(3)},
        0.4,
        {"fc": axis, "b": -2},
    )
    assert "b" in left


def test_masks_of_falling_densities_are_nested():
    scores = {"fc/kernel": scores_of(8, 8)}
    mask = {"fc/kernel": np.ones((8, 8), bool)}
    for density in (0.75, 0.5, 0.25):
        new, _ = patterns.prune_to("1x4", mask, scores, density)
        assert not (new["fc/kernel"] & ~mask["fc/kernel"]).any()
        assert new["fc/kernel"].sum() == density * 64
        mask = new


def orders(channels, m):
    """All ways to put channels into groups of m, as orders."""
    if not channels:
        yield []
        return
    first, *others = channels
    for rest in itertools.combinations(others, m - 1):
        for tail in orders([c for c in others if c not in rest], m):
            yield [first, *rest, *tail]


def kept(scores, order, n, m):
    """The sum that N:M keeps of [C, L] in an order."""
    return sum(
        np.sort(group, 0)[m - n :].sum() for group in scores[order].reshape(-1, m, len(scores[0]))
    )


@pytest.mark.parametrize(("channels", "n", "m"), [(8, 2, 4), (6, 1, 2), (9, 2, 3)])
def test_the_permutation_of_few_channels_is_the_best_of_all(channels, n, m):
    for _ in range(5):
        scores = RNG.random((channels, 3)).astype(np.float32)
        made = patterns.n_m_permutation(scores, n, m)
        every = [kept(scores, order, n, m) for order in orders(list(range(channels)), m)]
        assert made.after == pytest.approx(max(every))
        assert made.before == pytest.approx(kept(scores, np.arange(channels), n, m))
        mask = np.asarray(patterns.n_m(scores, n, m, order=made.order))  # of the scores' own order
        assert scores[mask].sum() == pytest.approx(made.after)
        assert (mask[made.order].reshape(-1, m, 3).sum(1) == n).all()


def test_without_escapes_the_permutation_is_one_that_no_swap_improves():
    scores = RNG.random((12, 4)).astype(np.float32)
    made = patterns.n_m_permutation(scores, 2, 4, escapes=0)
    assert made.after > made.before
    for one, two in itertools.combinations(range(12), 2):
        order = made.order.copy()
        order[[one, two]] = order[[two, one]]
        assert kept(scores, order, 2, 4) <= made.after + 1e-5


def test_a_permuted_layer_computes_the_same_from_permuted_inputs():
    kernel = RNG.normal(size=(3, 3, 8, 2)).astype(np.float32)
    order = patterns.n_m_permutation(np.abs(kernel), 2, 4).order
    kernel *= np.asarray(patterns.n_m(np.abs(kernel), 2, 4, order=order))
    inputs = RNG.normal(size=(1, 5, 5, 8)).astype(np.float32)

    def conv(inputs, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=names)

    groups = (kernel[:, :, order] != 0).reshape(3, 3, 2, 4, 2).sum(3)
    assert (groups == 2).all()
    made = conv(inputs[..., order], kernel[:, :, order])
    np.testing.assert_allclose(made, conv(inputs, kernel), atol=1e-5)


def test_the_axis_of_the_inputs_is_read_from_the_network():
    def network(params, x):  # a kernel [O, I], heads, and a stack
        x = jnp.einsum("bi,oi->bo", x, params["torch"]["weight"])
        heads = jnp.einsum("bi,ihd->bhd", x, params["query"]["kernel"])
        x = jnp.einsum("bhd,hdo->bo", heads, params["out"]["kernel"])
        return jax.lax.scan(lambda x, k: (x @ k, None), x, params["stack"]["kernel"])[0]

    shapes = {"torch": (8, 4), "query": (8, 2, 4), "out": (2, 4, 4), "stack": (3, 4, 4)}
    names = {name: "weight" if name == "torch" else "kernel" for name in shapes}
    params = {name: {names[name]: jnp.ones(shape)} for name, shape in shapes.items()}
    reached, refused = reach.layers(network, params, jnp.ones((1, 4)))
    assert not refused
    axes = patterns.input_axes(reached)
    expected = {"torch/weight": 1, "query/kernel": 0, "out/kernel": 1, "stack/kernel": 1}
    assert axes == expected
    variables = {f"params/{path}": np.ones((4,) * 4) for path in axes}  # of a mask of all of them
    assert not patterns.unfit("2:4", variables, axes)


def pruned(pattern, shape, density=None):
    return patterns.prune_to(pattern, {"a": np.ones(shape, bool)}, {"a": np.ones(shape)}, density)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: patterns.n_m(np.ones((6, 2)), 2, 4), "4 does not divide the 6 entries of axis -2"),
        (lambda: patterns.n_m(np.ones((4, 2)), 4, 4), "4:4 must keep at least 1 of a group"),
        (lambda: patterns.n_m(np.ones(4), 2, 4), r"shape \(4,\) has no axis -2"),
        (lambda: patterns.n_m({"a": np.ones((4, 2))}, 2, 4, {}), "no axis of inputs .* 'a'"),
        (lambda: patterns.n_m(np.ones((4, 2)), 2, 4, order=[0, 1, 1, 2]), "a permutation of the 4"),
        (lambda: patterns.blocks(np.ones((6, 4)), (4, 4), 0.5), "4x4 do not divide the last two"),
        (lambda: patterns.blocks(np.ones((4, 4)), (4, 4), 1.5), r"density=1.5 must be in \[0, 1\]"),
        (lambda: patterns.blocks(np.ones((4, 4)), (0, 4), 0.5), "must be two sizes"),
        (lambda: patterns.parse("2-4"), "unknown pattern '2-4'"),
        (lambda: patterns.parse("1x1"), "more than one weight"),
        (lambda: pruned("2:4", (6, 2)), "pattern 2:4 fits no layer; 'a': 4 does not divide"),
        (lambda: pruned("2:4", (4, 2), 0.3), "density=0.3: pattern 2:4 keeps 0.5"),
        (lambda: pruned("2x2", (4, 2)), "density=None of the pattern 2x2"),
        (lambda: patterns.n_m_permutation(np.full((4, 2), np.nan), 2, 4), "must be finite"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_line(call, said):
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
