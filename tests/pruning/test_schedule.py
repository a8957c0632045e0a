"""`pruning.schedule.plan` against plain Python loops and the paper's table."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import schedule, select
from pruning.schedule import NothingToPruneError, UnreachableError

LENET = {"fc1/kernel": (784, 300), "fc2/kernel": (300, 100), "output/kernel": (100, 10)}


def _shapes(shapes):
    return {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()}


def _loop(sizes, rates, levels, kind):
    """Counts by level, or (level, layer) of the first that empties or stops shrinking."""
    rows = [dict(sizes)]
    for level in range(1, levels + 1):
        row = {}
        for name, size in sizes.items():
            before = rows[-1][name]
            if kind == "geometric":
                row[name] = before - round(rates[name] * before)
            else:
                row[name] = size - round(level * rates[name] * size)
            if row[name] < 1 or (rates[name] > 0 and row[name] == before):
                return level, name
        rows.append(row)
    return rows


@given(
    st.lists(st.integers(1, 300), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9]), min_size=3, max_size=3),
    st.integers(0, 12),
    st.sampled_from(schedule.SCHEDULES),
)
def test_layerwise_plans_equal_a_plain_loop_or_are_refused(sizes, rates, levels, kind):
    sizes, rates = (dict(zip("abc", values, strict=True)) for values in (sizes, rates))
    shapes = _shapes({f"{name}/kernel": (size,) for name, size in sizes.items()})
    want = _loop(sizes, rates, levels, kind)
    if isinstance(want, tuple):
        with pytest.raises(UnreachableError, match=rf"level {want[0]} would .*'{want[1]}'"):
            schedule.plan(shapes, rates, "layerwise", levels, kind)
    else:
        plan = schedule.plan(shapes, rates, "layerwise", levels, kind)
        assert plan.kept == want
        assert all(type(n) is int for row in plan.kept for n in row.values())


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
def test_global_plans_count_the_total(kind):
    plan = schedule.plan(_shapes(LENET), 0.09, "global", 11, kind)
    want = _loop({"all": 266_200}, {"all": 0.09}, 11, kind)
    assert [sum(row.values()) for row in plan.kept] == [row["all"] for row in want]
    assert [list(row) for row in plan.kept] == [list(plan.sizes)] * 12
    assert list(plan.paths.values()) == [tuple(LENET)]


def test_global_plans_with_two_rates_count_the_layers_of_each_rate():
    plan = schedule.plan(_shapes(LENET), {"*": 0.2, "output": 0.1}, "global", 5)
    paths = {group: paths for paths, group in zip(plan.paths, plan.paths.values(), strict=True)}
    fc, output = paths["fc1/kernel", "fc2/kernel"], paths[("output/kernel",)]
    want = _loop({fc: 265_200, output: 1000}, {fc: 0.2, output: 0.1}, 5, "geometric")
    assert plan.kept == want
    assert plan.sizes == want[0]


def test_lenet_300_100_reproduces_the_papers_table():
    """Per cent of weights remaining in Frankle & Carbin, arXiv:1803.03635, Figures 3 and 4."""
    plan = schedule.plan(_shapes(LENET), {"*": 0.2, "output": 0.1}, "layerwise", 16)
    assert plan.sizes == {"fc1": 235_200, "fc2": 30_000, "output": 1000}
    percent = [round(100 * sum(row.values()) / 266_200, 1) for row in plan.kept]
    published = {0: 100, 3: 51.3, 7: 21.1, 9: 13.5, 12: 7.0, 15: 3.6, 16: 2.9}
    assert {level: percent[level] for level in published} == published


@pytest.mark.parametrize("scope", select.SCOPES)
@pytest.mark.parametrize("rate", [0.3, {"*": 0.3, "b": 0.1}])
def test_a_geometric_plan_counts_what_repeated_pruning_leaves(rate, scope):
    shapes = {"a/bias": (4,), "a/kernel": (2, 4), "b/kernel": (12,)}
    plan = schedule.plan(_shapes(shapes), rate, scope, 4)
    mask, rng = {p: np.ones(s, bool) for p, s in shapes.items()}, np.random.default_rng(0)
    planned = mask
    for row in plan.kept[1:]:
        scores = {path: rng.normal(size=shape) for path, shape in shapes.items()}
        planned = select.prune_to(planned, scores, row, plan.paths)
        mask = select.prune(mask, scores, rate, scope)
        jax.tree.map(np.testing.assert_array_equal, mask, planned)
        got = {g: sum(int(np.sum(mask[p])) for p in paths) for g, paths in plan.paths.items()}
        assert got == row


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
@pytest.mark.parametrize("density", [0.05, 0.1, 0.5])
def test_one_shot_is_one_level_at_one_minus_the_density(density, kind):
    plan = schedule.plan(_shapes(LENET), 1 - density, "global", 1, kind)
    assert [sum(row.values()) for row in plan.kept] == [266_200, round(density * 266_200)]


def test_a_linear_plan_of_mnist1d_falls_by_a_straight_line():
    shapes = {"fc1/bias": (500,), "fc1/kernel": (40, 500), "out/kernel": (500, 10)}
    plan = schedule.plan(_shapes(shapes), 1 / 99, "layerwise", 98, "linear")
    for level, row in enumerate(plan.kept):
        exact = {"fc1": 20_500 * (1 - level / 99), "out": 5000 * (1 - level / 99)}
        assert all(abs(row[layer] - exact[layer]) <= 0.5 + 1e-6 for layer in exact)


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
def test_no_levels_plan_the_dense_network_alone(kind):
    assert schedule.plan(_shapes({"a": (4,)}), 0, "layerwise", 0, kind).kept == [{"a": 4}]


STOPS = [  # weights of each layer, rate, scope, schedule, what is said
    ({"a": 9, "b": 4}, 0.5, "layerwise", "geometric", "level 3 would stop shrinking 'b'"),
    ({"a": 100, "b": 2}, 0.8, "layerwise", "geometric", "level 1 would empty 'b'"),
    ({"a": 100, "b": 3}, {"a": 0.1, "b": 0.9}, "layerwise", "linear", "level 1 would empty 'b'"),
    ({"a": 40, "b": 3}, 0.1, "layerwise", "linear", "level 1 would stop shrinking 'b'"),
    ({"a": 40, "b": 20}, 0.25, "layerwise", "linear", "level 4 would empty 'a'"),
    ({"a": 1, "b": 1}, 0.9, "global", "geometric", "level 1 would empty 'all layers'"),
]


@pytest.mark.parametrize(("sizes", "rate", "scope", "kind", "message"), STOPS)
def test_levels_that_empty_or_stop_are_refused_by_name(sizes, rate, scope, kind, message):
    shapes = _shapes({name: (size,) for name, size in sizes.items()})
    with pytest.raises(UnreachableError, match=f"^{message}") as caught:
        schedule.plan(shapes, rate, scope, 12, kind)
    assert "\n" not in str(caught.value)
    level = int(message.split()[1])
    assert caught.value.levels == level - 1
    assert caught.value.rate == ("smaller" if "empty" in message else "larger")


@pytest.mark.parametrize(
    ("rate", "scope", "kind", "message"),
    [
        ({"*": 0.5, "c": 0.1}, "layerwise", "geometric", "'c'"),
        ({"a": 0.5}, "layerwise", "geometric", "'b'"),
        (1.5, "layerwise", "geometric", "1.5"),
        (0.5, "layers", "geometric", "unknown scope 'layers'"),
        (0.5, "global", "lineal", "unknown schedule 'lineal'.*geometric, linear"),
    ],
)
def test_rates_that_do_not_fit_and_unknown_names_are_refused(rate, scope, kind, message):
    with pytest.raises(ValueError, match=message) as caught:
        schedule.plan(_shapes({"a": (4,), "b": (4,)}), rate, scope, 12, kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rate", "scope", "kind"), [(0, "layerwise", "geometric"), ({"*": 0.0}, "global", "linear")]
)
def test_rates_of_0_alone_are_refused(rate, scope, kind):
    with pytest.raises(NothingToPruneError, match="level 1 would prune nothing"):
        schedule.plan(_shapes({"a": (4,), "b": (4,)}), rate, scope, 12, kind)


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
def test_the_refusal_says_how_many_levels_would_do(kind):
    shapes = _shapes({"a": (20,)})
    with pytest.raises(UnreachableError) as caught:
        schedule.plan(shapes, 0.2, "layerwise", 50, kind)
    most = caught.value.levels
    assert len(schedule.plan(shapes, 0.2, "layerwise", most, kind).kept) == most + 1
    with pytest.raises(UnreachableError):
        schedule.plan(shapes, 0.2, "layerwise", most + 1, kind)


@pytest.mark.parametrize("kind", schedule.SCHEDULES)
@pytest.mark.parametrize("scope", select.SCOPES)
def test_a_layer_at_rate_0_stays_whole(scope, kind):
    shapes = {"conv/kernel": (3, 3), "shortcut/kernel": (1,)}
    plan = schedule.plan(_shapes(shapes), {"*": 0.2, "shortcut": 0}, scope, 3, kind)
    whole = next(g for g, paths in plan.paths.items() if "shortcut/kernel" in paths)
    assert [row[whole] for row in plan.kept] == [1] * 4
    assert plan.requested(3)[whole] == 1
    assert sum(plan.kept[3].values()) <= 6


@pytest.mark.parametrize(
    ("kind", "want"),
    [("geometric", lambda rate, k: (1 - rate) ** k), ("linear", lambda rate, k: 1 - rate * k)],
)
def test_requested_is_the_density_before_rounding(kind, want):
    plan = schedule.plan(_shapes(LENET), {"*": 0.2, "output": 0.1}, "layerwise", 4, kind)
    for level in range(5):
        asked = {"fc1": want(0.2, level), "fc2": want(0.2, level), "output": want(0.1, level)}
        assert plan.requested(level) == pytest.approx(asked)
        for layer, size in plan.sizes.items():
            assert abs(plan.kept[level][layer] / size - asked[layer]) <= 2.5 / size
