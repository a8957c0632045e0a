"""Layers that `nn.scan` stacks in one array: each slice is ranked by itself, as NumPy would."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.traced import reach
from pruning import masks, rates, schedule, select

SHAPES = {
    "blocks/bias": (3, 4),
    "blocks/kernel": (3, 5, 4),
    "deep/kernel": (2, 3, 4),
    "out": (4, 2),
}
STACKED = {"blocks": 1, "deep": 2}


def _arrays(seed):
    rng = np.random.default_rng(seed)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in SHAPES.items()}


def _prune_slice(parts, keeps, rate):
    """The best of one slice's leaves, ranked together: a plain sort."""
    scores = np.concatenate([part.ravel() for part in parts])
    keep = np.concatenate([part.ravel() for part in keeps])
    kept = sorted(np.flatnonzero(keep), key=lambda i: -scores[i])
    chosen = np.zeros_like(keep)
    chosen[kept[: len(kept) - round(rate * len(kept))]] = True
    cuts = np.cumsum([part.size for part in parts])[:-1]
    return [c.reshape(p.shape) for c, p in zip(np.split(chosen, cuts), parts, strict=True)]


def _by_slices(mask, scores, rates):
    new = {path: np.array(keep) for path, keep in mask.items()}
    for paths, stack in (
        (["blocks/bias", "blocks/kernel"], (3,)),
        (["deep/kernel"], (2, 3)),
        (["out"], ()),
    ):
        for index in np.ndindex(stack):
            parts = [np.asarray(scores[p][index]) for p in paths]
            keeps = [np.asarray(mask[p][index]) for p in paths]
            rate = rates[paths[0].partition("/")[0]]
            for path, chosen in zip(paths, _prune_slice(parts, keeps, rate), strict=True):
                new[path][index] = chosen
    return new


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_each_slice_is_ranked_by_itself(transform):
    rates = {"blocks": 0.3, "deep": 0.5, "out": 0.25}
    prune = transform(lambda m, s: select.prune(m, s, rates, stacked=STACKED))
    rng = np.random.default_rng(0)
    mask = {path: rng.random(shape) < 0.8 for path, shape in SHAPES.items()}  # slices differ
    for level in range(3):
        scores = _arrays(level)
        new = prune(mask, scores)
        expected = _by_slices(mask, scores, rates)
        for path in SHAPES:
            np.testing.assert_array_equal(new[path], expected[path], err_msg=path)
        mask = expected


def test_a_small_slice_is_not_emptied():
    scores = {"blocks/kernel": np.stack([np.full((4, 4), 9.0), np.full((4, 4), 0.1)])}
    mask = {path: np.ones(score.shape, bool) for path, score in scores.items()}
    together = select.prune(mask, scores, 0.5)["blocks/kernel"]
    assert together.sum((1, 2)).tolist() == [16, 0]
    apart = select.prune(mask, scores, 0.5, stacked={"blocks": 1})["blocks/kernel"]
    assert apart.sum((1, 2)).tolist() == [8, 8]


def test_global_ranks_slices_together():
    scores = _arrays(0)
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    plain = select.prune(mask, scores, 0.5, "global")
    told = select.prune(mask, scores, 0.5, "global", stacked=STACKED)
    assert all((plain[path] == told[path]).all() for path in SHAPES)


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
def test_a_plan_counts_slices(kind):
    shapes = {path: jax.ShapeDtypeStruct(SHAPES[path], np.float32) for path in list(SHAPES)[:2]}
    plan = schedule.plan(shapes, 0.1, "layerwise", 3, kind, {"blocks": 1})
    size, per_slice = 24, [24]
    for level in range(1, 4):
        before = per_slice[-1]
        after = before - round(0.1 * before) if kind == "geometric" else size - round(level * 2.4)
        per_slice.append(after)
    assert [row["blocks"] for row in plan.kept] == [3 * count for count in per_slice]
    assert [plan.of_slices(level)["blocks"] for level in range(4)] == per_slice


def test_a_slice_that_would_become_empty_is_refused():
    shapes = {"blocks/kernel": jax.ShapeDtypeStruct((9, 3), np.float32)}
    schedule.plan(shapes, 0.5, "layerwise", 3)
    with pytest.raises(schedule.UnreachableError, match="level 2 would stop shrinking 'blocks'"):
        schedule.plan(shapes, 0.5, "layerwise", 3, stacked={"blocks": 1})


@pytest.mark.parametrize(
    ("stacked", "message"),
    [
        ({"block": 1}, "stacked's pattern 'block' matches none of blocks, deep, out"),
        (
            {"blocks": 2},
            r"the leaves of 'blocks' do not share 2 axes: blocks/bias \(3, 4\), blocks",
        ),
        ({"out": 3}, r"the leaves of 'out' do not share 3 axes: out \(4, 2\)"),
        ({"out": -1}, "'out' has -1 axes"),
        ({"out": 1.0}, "'out' has 1.0, not a number of axes"),
    ],
)
def test_wrong_axes_are_refused(stacked, message):
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    with pytest.raises(ValueError, match=message):
        select.prune(mask, _arrays(0), 0.5, stacked=stacked)


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(4)(x)), None


class _Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(_Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan(name="blocks")(x, None)
        return nn.Dense(2, name="out")(x)


def test_the_stacks_of_a_scanned_network_are_found():
    inputs = jnp.ones((2, 4))
    variables = _Scanned().init(jax.random.key(0), inputs)
    reached, _ = reach.layers(_Scanned(), variables, inputs)
    stacked = rates.stacked(reached)
    assert stacked == {"blocks/Dense_0": 1}
    params = variables["params"]
    mask = masks.ones(params)
    scores = {path: jnp.abs(leaf) for path, leaf in masks.flatten(params).items()}
    new = select.prune(mask, scores, 0.25, stacked=stacked)
    assert new["blocks/Dense_0/kernel"].sum((1, 2)).tolist() == [12, 12, 12]
