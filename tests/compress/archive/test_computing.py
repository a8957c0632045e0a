"""Files whose networks compute in integers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import form as form_lib
from compress import quantize
from compress.form import Form
from deploy import integers, predictions
from deploy.graphs.graph import Grid
from groundwork.architectures import build
from groundwork.errors import UserError
from tests.compress.archives import drawn

SHAPE = (16, 16, 1)
INPUTS = np.random.default_rng(1).normal(size=(6, *SHAPE)).astype(np.float32)


def saved(path, name="lenet_5", bits=8, activation_bits=8, method=quantize.uniform):
    """A file of a small network; no activation bits leave out the grids."""
    model = build({"name": name, "width": 0.2}, 3)
    variables = drawn(model, SHAPE)
    layers = form_lib.reached(Form(model), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32))
    chosen = dict.fromkeys(layers, activation_bits) if activation_bits else {}
    more = {}
    if chosen:
        grids = form_lib.calibrated(Form(model), variables, jnp.asarray(INPUTS), chosen)
        more = {form_lib.ACTIVATIONS: grids}

    def store(keys, leaf):
        return method(jnp.asarray(leaf), bits) if keys[-1].key == "kernel" else leaf

    stored = jax.tree_util.tree_map_with_path(store, variables)
    compress.save(path, model, {**stored, **more}, example=SHAPE, activations=chosen)
    return path


class Two(nn.Module):
    """A network whose outputs have names."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(8, name="first")(x.reshape(len(x), -1)))
        return {"logits": nn.Dense(3, name="last")(x), "features": x}


def test_outputs_have_the_structure_of_the_network(tmp_path):
    model, chosen = Two(), {"first": 8, "last": 8}
    variables = drawn(model, SHAPE)
    grids = form_lib.calibrated(Form(model), variables, jnp.asarray(INPUTS), chosen)
    stored = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: quantize.uniform(leaf, 8) if keys[-1].key == "kernel" else leaf,
        variables,
    )
    more = {form_lib.ACTIVATIONS: grids}
    compress.save(tmp_path / "a", model, {**stored, **more}, example=SHAPE, activations=chosen)
    apply, variables = compress.load(tmp_path / "a", model, compute="int8")
    found = apply(variables, INPUTS)
    dense, floats = compress.load(tmp_path / "a", model)
    for name, wanted in dense(floats, INPUTS).items():
        assert found[name].shape == wanted.shape
        assert np.abs(found[name] - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["lenet_5", "lenet_300_100"])
def test_predictions_are_the_integers_of_the_reference(name, tmp_path):
    path = saved(tmp_path / "a.cna", name)
    apply, variables = compress.load(path, compute="int8")
    found = np.asarray(apply(variables, INPUTS))
    graph = predictions.graph_of_file(path)
    first, *_ = (node for node in graph.nodes if node.layer)
    scale, zero_point = compress.load(path)[1]["activations"][first.layer].values()
    assert graph.grids["input"] == Grid(float(scale), int(zero_point) - 128)
    expected = [integers.run(graph, INPUTS[start : start + 2]) for start in (0, 2, 4)]
    np.testing.assert_array_equal(found, np.concatenate(expected))
    np.testing.assert_array_equal(found[:1], apply(variables, INPUTS[:1]))
    assert apply(variables, INPUTS[:0]).shape == (0, 3)


def test_predictions_are_near_those_in_floats(tmp_path):
    path = saved(tmp_path / "a.cna")
    apply, variables = compress.load(path, compute="int8")
    dense, floats = compress.load(path, compute="dense")
    exact = np.asarray(dense(floats, INPUTS, train=False))
    found = np.asarray(apply(variables, INPUTS, train=False))
    np.testing.assert_allclose(found, exact, atol=0.01 * np.abs(exact).max())


def test_a_network_of_integers_does_not_train(tmp_path):
    apply, variables = compress.load(saved(tmp_path / "a.cna"), compute="int8")
    with pytest.raises(ValueError, match="does not train"):
        apply(variables, INPUTS, train=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation_bits": 0}, "no grids: quantize with .*quantize.activation_bits=8"),
        ({"activation_bits": 4}, "the inputs of 'conv1' have 4 bits, not 8: quantize with"),
        ({"bits": 12}, "the kernel of 'conv1' stays floats.*quantize with quantize.method"),
        (
            {"method": lambda leaf, bits: leaf},
            "the kernel of 'conv1' stays floats.*quantize with quantize.method",
        ),
    ],
)
def test_a_file_without_integers_is_refused_in_one_line(settings, message, tmp_path):
    path = saved(tmp_path / "a.cna", **settings)
    with pytest.raises(UserError, match=message) as raised:
        compress.load(path, compute="int8")
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_other_ways_to_compute_are_refused(tmp_path):
    path = saved(tmp_path / "a.cna")
    with pytest.raises(UserError, match="compute"):
        compress.load(path, compute="int4")
    with pytest.raises(UserError, match="takes no like="):
        compress.load(path, like={}, compute="int8")
