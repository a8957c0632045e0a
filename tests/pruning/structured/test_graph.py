"""Groups by hand: which entries of which variables go together, which stay, and why."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pruning import structured
from tests.pruning.structured.zoo import Net, images


def shapes(model, x):
    return jax.eval_shape(model.init, jax.random.key(0), x)


def grouped(model, x, **how):
    return structured.groups(model, shapes(model, x), x, **how)


def members(graph, name):
    """(path, axis) → how many entries each unit has there."""
    (group,) = [group for group in graph.groups if group.name == name]
    return {(m.path, m.axis): m.positions.shape[1] for m in group.members}


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6, name="stem")(x)
        for number in range(2):
            y = nn.relu(nn.Dense(4, name=f"up{number}")(x))
            x = x + nn.Dense(6, name=f"down{number}")(y)
        return nn.Dense(3, name="head")(x)


def test_a_residual_stream_is_one_group_and_each_hidden_layer_another():
    graph = grouped(Residual(), jnp.ones((2, 5)))
    assert [(group.name, group.units) for group in graph.groups] == [
        ("stem", 6),
        ("up0", 4),
        ("up1", 4),
    ]
    assert members(graph, "stem") == {
        ("params/stem/kernel", 1): 1,
        ("params/stem/bias", 0): 1,
        ("params/up0/kernel", 0): 1,
        ("params/down0/kernel", 1): 1,
        ("params/down0/bias", 0): 1,
        ("params/up1/kernel", 0): 1,
        ("params/down1/kernel", 1): 1,
        ("params/down1/bias", 0): 1,
        ("params/head/kernel", 0): 1,
    }
    assert graph.frozen == {
        "params/stem/kernel 0": "it meets an axis of the inputs",
        "params/head/kernel 1": "it is an output",
        "params/head/bias 0": "it is an output",
    }


def test_a_flattened_image_has_a_pixel_of_each_channel_for_every_place():
    graph = grouped(Net("flat"), images())
    assert members(graph, "stem")["params/Dense_0/kernel", 0] == 8 * 8
    (stem,) = [group for group in graph.groups if group.name == "stem"]
    (rows,) = [m.positions for m in stem.members if m.path == "params/Dense_0/kernel"]
    np.testing.assert_array_equal(rows, np.arange(8 * 8 * 16).reshape(64, 16).T)


@pytest.mark.parametrize("split", ["outer", "inner"])
def test_heads_are_found_in_a_static_reshape(split):
    """[…, 3, 4 heads, 4]: of q, k and v, each head has 4 entries, and each place 4 heads."""
    graph = grouped(Net("attention"), images(), split=split)
    (qkv,) = [group for group in graph.groups if group.name == "qkv"]
    assert (qkv.units, members(graph, "qkv")["params/qkv/kernel", 1]) == (4, 12)
    (columns,) = [m.positions for m in qkv.members if m.path == "params/qkv/kernel"]
    head = np.concatenate([16 * part + np.arange(4) for part in range(3)])
    place = np.concatenate([16 * part + 4 * np.arange(4) for part in range(3)])
    np.testing.assert_array_equal(columns[0], head if split == "outer" else place)


def test_what_a_maximum_or_a_deviation_runs_over_is_not_exact():
    graph = grouped(Net("attention"), images())
    doubts = {group.name: group.doubt for group in graph.groups}
    assert doubts["qkv"] == doubts["stem"] == ""

    class Largest(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(4, name="hidden")(x)
            return nn.Dense(2, name="head")(y) + y.max(-1, keepdims=True)

    graph = grouped(Largest(), jnp.ones((2, 3)))
    assert [group.exact for group in graph.groups] == [False]
    assert "reduce_max" in graph.groups[0].doubt


@pytest.mark.parametrize(
    ("scaled", "operation"),
    [
        (lambda w: w / jnp.sqrt(jnp.sum(w**2, 0, keepdims=True)), "div"),
        (lambda w: w * jax.lax.rsqrt(jnp.sum(w**2, 0, keepdims=True)), "rsqrt"),
        (lambda w: w * (1 / jnp.sum(jnp.abs(w), 0, keepdims=True)), "div"),
        (lambda w: w * jnp.log(jnp.abs(w)), "log"),
        (lambda w: w / jnp.sqrt(jnp.sum(w**2, 0, keepdims=True) + 1e-6), ""),
    ],
)
def test_a_unit_of_which_zeros_make_no_number_is_not_exact(scaled, operation):
    """The masked network computes NaN, and the narrow one does not."""
    kernels = {"hidden": jnp.ones((3, 4)), "head": jnp.ones((4, 2))}
    graph = structured.groups(
        lambda v, x: (x @ scaled(v["hidden"])) @ v["head"], kernels, jnp.ones((2, 3))
    )
    (group,) = graph.groups
    assert group.doubt == (
        operation and f"where its units are zero, {operation} makes no finite number"
    )


def test_entries_that_training_treats_otherwise_stay():
    class Sorted(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            y = nn.Dense(4, name="hidden")(x)
            return nn.Dense(2, name="head")(jnp.sort(y, -1) if train else y)

    with pytest.raises(ValueError, match="it is sorted along it"):
        grouped(Sorted(), jnp.ones((2, 3)))


def test_an_unknown_primitive_says_its_name():
    class Spectrum(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(4, name="hidden")(x)
            return nn.Dense(2, name="head")(jnp.abs(jnp.fft.fft(nn.Dense(4, name="wave")(y))))

    graph = grouped(Spectrum(), jnp.ones((2, 3)))
    assert [group.name for group in graph.groups] == ["hidden"]
    assert graph.frozen["params/wave/kernel 1"] == "it enters fft, of which nothing is known"


def test_what_is_ignored_stays():
    graph = grouped(Residual(), jnp.ones((2, 5)), ignored=("params/up0/*",))
    assert [group.name for group in graph.groups] == ["up1"]
    assert graph.frozen["params/up0/bias 0"] == "it is ignored, as params/up0/*"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"ignored": ("nothing*",)}, "ignored='nothing*' matches no variable, such as params/"),
        ({"ignored": ("*",)}, "nothing of this network can be removed: it is ignored, as *"),
        ({"ignored": "params/*"}, "ignored='params/*' must be a list of patterns, such as ['para"),
        ({"split": "middle"}, "split='middle' must be one of outer, inner"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(how, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        grouped(Residual(), jnp.ones((2, 5)), **how)


def test_an_example_that_does_not_fit_is_refused():
    model = Residual()
    with pytest.raises(ValueError, match="the network cannot be called with this example: "):
        structured.groups(model, shapes(model, jnp.ones((2, 5))), jnp.ones((2, 7)))


def test_a_trace_that_depends_on_values_is_refused():
    def apply(variables, x):
        return x @ variables["w"] if x.sum() > 0 else x

    with pytest.raises(ValueError, match="cannot be called with this example: "):
        structured.groups(apply, {"w": jnp.ones((3, 3))}, jnp.ones((2, 3)))


TABLE = """\
stem: 16 units, exact
    params/Conv_0/kernel[2], params/stem/bias[0], params/stem/kernel[3]
Conv_0: 8 units, exact
    params/Conv_0/bias[0], params/Conv_0/kernel[3], params/head/kernel[0]

What stays:
it is an output:
    params/head/bias[0], params/head/kernel[1]
it meets an axis of the inputs:
    params/stem/kernel[2]"""


def test_a_graph_prints_as_a_table():
    assert str(grouped(Net("plain"), images())) == TABLE


def test_a_table_has_80_columns_and_whole_words():
    class Largest(nn.Module):
        @nn.compact
        def __call__(self, x):
            for number in range(3):
                x = nn.Dense(4, name=f"{'a_long_name_' * 6}{number}")(x)
                x = x - x.max(-1, keepdims=True)
            return nn.Dense(2, name="head")(x)

    nested = nn.Sequential([Largest()])
    graph = grouped(nested, jnp.ones((2, 3)))
    text = str(graph)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "4 units, not exact: reduce_max runs over its units" in words
    for group in graph.groups:
        for member in group.members:
            assert f"{member.path}[{member.axis}]" in text.replace("/\n    ", "/")


def test_a_window_that_moves_units_to_their_neighbours_lets_them_stay():
    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Dense(4, name="hidden")(x)
            moved = ((0, 0), (1, -1))
            y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1), (1, 1), moved)
            return nn.Dense(2, name="head")(jnp.maximum(y, 0))

    with pytest.raises(ValueError, match="a window moves over it"):
        grouped(Shifted(), jnp.ones((2, 3)))


def test_a_layer_makes_units_and_the_next_one_takes_them():
    model, x = Net("flat"), images()
    graph = structured.groups(model, jax.eval_shape(model.init, jax.random.key(0), x), x)
    found = structured.coupling(graph)
    assert found["stem"] == {"makes": ["stem"], "takes": []}
    assert found["Dense_0"] == {"makes": ["Dense_0"], "takes": ["stem"]}
    assert found["head"] == {"makes": [], "takes": ["Dense_0"]}


@pytest.mark.parametrize(
    ("how", "doubt"),
    [
        ({}, ""),  # NaN, in all units of a row
        ({"fill_value": 0.0}, ""),
        ({"fill_value": 1.0}, "reduce_sum runs over its units"),
        ({"mode": "clip"}, ""),
    ],
)
def test_rows_beyond_an_array_are_exact_unless_a_number_fills_them(how, doubt):
    """The sum has a number of each unit, that of a unit that is gone included."""
    rows = np.array([0, 7])  # of two

    def apply(variables, x):
        y = jnp.take(x @ variables["hidden"], rows, axis=0, **how)
        return y @ variables["head"] + y.sum(1, keepdims=True)

    draw = np.random.default_rng(0)
    variables = {"hidden": draw.normal(size=(3, 4)), "head": draw.normal(size=(4, 2))}
    variables, x = jax.tree.map(np.float32, variables), np.ones((2, 3), np.float32)
    graph = structured.groups(apply, variables, x)
    assert [group.doubt for group in graph.groups] == [doubt]
    keep = {graph.groups[0].name: np.arange(4) < 2}
    narrow, small = structured.narrow(graph, variables, keep)
    got, expected = narrow.apply(small, x), apply(structured.mask(graph, variables, keep), x)
    assert np.allclose(got, expected, rtol=1e-5, equal_nan=True) == (doubt == "")
    assert np.isnan(expected).any() == (how == {})
