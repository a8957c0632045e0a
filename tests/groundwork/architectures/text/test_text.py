"""The language models against their equations in numpy, float64; and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax

from groundwork import trees
from groundwork.architectures import build, shapes
from groundwork.errors import UserError
from groundwork.train import replicates
from pruning import structured
from tests.groundwork.architectures.small import drawn_by_numpy, quickly

LENGTH, CLASSES, HEADS, SIZE = 5, 7, 2, 3
TOKENS = np.array([[3, 1, 4, 1, 5], [2, 6, 0, 6, 6]], np.int32)
EXAMPLE = jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)
SECTIONS = {
    "transformer": {"name": "transformer", "layers": 2, "heads": HEADS, "features": 6},
    "tied": {"name": "transformer", "layers": 1, "heads": HEADS, "features": 6, "tied": True},
    "lstm": {"name": "lstm", "layers": 2, "features": 4},
}


def normed(x, leaves):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * leaves["scale"] + leaves["bias"]


def attended(x, leaves):
    """One head and one token at a time."""
    q, k, v = (
        np.tensordot(x, leaves[name]["kernel"], 1) + leaves[name]["bias"]
        for name in ("query", "key", "value")
    )
    out = np.zeros_like(x) + leaves["out"]["bias"]
    for sequence, head, token in np.ndindex(len(x), HEADS, LENGTH):
        there = slice(0, token + 1)
        scores = k[sequence, there, head] @ q[sequence, token, head] / np.sqrt(SIZE)
        mixed = softmax(scores) @ v[sequence, there, head]
        out[sequence, token] += mixed @ leaves["out"]["kernel"][head]
    return out


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def transformer(params, layers, tied):
    x = params["embed"]["embedding"][TOKENS] + params["positions"]
    for number in range(1, layers + 1):
        block = params[f"block{number}"]
        x = x + attended(normed(x, block["norm1"]), block["attention"])
        hidden = gelu(normed(x, block["norm2"]) @ block["fc1"]["kernel"] + block["fc1"]["bias"])
        x = x + hidden @ block["fc2"]["kernel"] + block["fc2"]["bias"]
    x = normed(x, params["norm"])
    if tied:
        return x @ params["embed"]["embedding"].T
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def lstm(params, layers):
    x = params["embed"]["embedding"][TOKENS]
    for number in range(1, layers + 1):
        leaves = params[f"lstm{number}"]
        given, own = leaves["inputs"], leaves["recurrent"]["kernel"]
        cell, hidden, outputs = 0, np.zeros((len(x), own.shape[-1])), []
        for token in range(LENGTH):
            i, f, g, o = (
                x[:, token] @ given["kernel"][:, gate] + given["bias"][gate] + hidden @ own[:, gate]
                for gate in range(4)
            )
            cell = expit(f) * cell + expit(i) * np.tanh(g)
            hidden = expit(o) * np.tanh(cell)
            outputs.append(hidden)
        x = np.stack(outputs, 1)
    return x @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize("name", SECTIONS)
def test_logits_are_those_of_the_equations(name):
    module = build(SECTIONS[name], CLASSES)
    variables = drawn_by_numpy(module, EXAMPLE)
    params, layers = variables["params"], SECTIONS[name]["layers"]
    want = lstm(params, layers) if name == "lstm" else transformer(params, layers, name == "tied")
    got = quickly(module.apply)(jax.tree.map(jnp.float32, variables), TOKENS)
    assert got.shape == (2, LENGTH, CLASSES)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_heads_and_hidden_units_are_groups_that_can_go():
    module = build(SECTIONS["transformer"], CLASSES)
    variables = jax.eval_shape(module.init, jax.random.key(0), TOKENS)
    graph = structured.groups(module, variables, TOKENS[:1])
    found = {group.name: group.units for group in graph.groups}
    assert all(group.exact for group in graph.groups)
    for block in ("block1", "block2"):
        assert found[f"{block}/attention/query"] == HEADS
        assert found[f"{block}/fc1"] == 4 * HEADS * SIZE
    keep = {"block1/attention/query": np.array([False, True])}
    small = jax.eval_shape(lambda v: structured.cut(graph, v, keep), variables)
    small = small["params"]["block1"]["attention"]
    assert small["out"]["kernel"].shape == (1, SIZE, HEADS * SIZE)
    for part in ("query", "key", "value"):
        assert small[part]["kernel"].shape == (HEADS * SIZE, 1, SIZE)


def test_forget_gates_begin_open_and_a_width_multiplies_every_head():
    module = build({**SECTIONS["lstm"], "width": 0.5}, CLASSES)
    layer = quickly(module.init)(jax.random.key(0), TOKENS)["params"]["lstm1"]
    np.testing.assert_array_equal(layer["inputs"]["bias"], [[0, 0], [1, 1], [0, 0], [0, 0]])
    for gate in np.moveaxis(layer["recurrent"]["kernel"], 1, 0):
        np.testing.assert_allclose(gate @ gate.T, np.eye(2), atol=1e-6)
    found = shapes(build({**SECTIONS["transformer"], "width": 2.0}, CLASSES), EXAMPLE)["params"]
    assert found["block1"]["attention"]["query"]["kernel"].shape == (12, HEADS, 2 * SIZE)
    assert found["block1"]["fc1"]["kernel"].shape == (12, 48)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_many_steps_of_training_are_one_call(name):
    module = build(SECTIONS[name], CLASSES)
    assert replicates.default_form(module, trees.zeros(EXAMPLE)) == "looped"


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_what_is_no_sequence_of_tokens_is_refused_in_one_line(name):
    for shape in ((8, 8, 1), (8,)):
        with pytest.raises(UserError, match=r"takes integers \[B, L\].* not float32 of") as caught:
            shapes(build(SECTIONS[name], CLASSES), shape)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "transformer", "heads": 5}, "model: features=64 must be a multiple of heads=5"),
        ({"name": "transformer", "heads": 0}, "model: layers, heads and features .* at least 1"),
        ({"name": "lstm", "layers": 0}, "model: layers and features .* at least 1"),
        ({"name": "lstm", "heads": 2}, "heads"),
    ],
)
def test_settings_out_of_range_are_refused(section, said):
    with pytest.raises(UserError, match=said):
        build(section, CLASSES)
