"""Stored forms become parameters, and their floats have the gradients of all their weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import quantize
from compress.archive import streams
from compress.quantize.straight_through_estimator import straight_through
from tests.compress import archives


def _weights(seed=0, shape=(5, 6)):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def _stored():
    weights = _weights()
    mask = np.abs(weights) > 0.5
    return {
        "clusters": {"kernel": archives.shared(weights, 3, mask), "bias": jnp.ones(6)},
        "all": archives.shared(weights, 3),
        "uniform": quantize.uniform(weights, 4, axis=1),
        "ternary": quantize.ternary(weights),
        "binary": quantize.binary(weights, scaled=True),
    }


def test_parameters_have_the_paths_and_values_of_the_forms():
    stored = _stored()
    params = jax.jit(quantize.materialize)(stored)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    kernel = ((5, 6), np.dtype("f4"))
    assert shapes == {
        "clusters": {"kernel": kernel, "bias": ((6,), np.dtype("f4"))},
        **dict.fromkeys(["all", "uniform", "ternary", "binary"], kernel),
    }
    codebook, indices, *_ = stored["all"]
    np.testing.assert_array_equal(params["all"], np.asarray(codebook)[np.asarray(indices)])
    for name in ("uniform", "ternary", "binary"):
        np.testing.assert_allclose(params[name], quantize.dequantize(stored[name]), rtol=1e-6)
    assert np.abs(params["uniform"] - _weights()).max() < 0.3


def test_gradients_of_centroids_are_sums_over_their_clusters():
    """Han et al., equation 3, by numpy's bincount; none for what is pruned."""
    stored, toward = _stored(), _weights(1)
    for form in (stored["all"], stored["clusters"]["kernel"]):
        gradient = jax.jit(
            jax.grad(lambda c, form=form: jnp.sum(toward * quantize.materialize(form, c)))
        )(form.codebook)
        kept = np.ones((5, 6), bool) if form.mask is None else np.asarray(form.mask)
        expected = np.bincount(np.asarray(form.indices)[kept], toward[kept], 8)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
        assert np.sum(np.abs(expected) > 0.1) > 4


def test_pruned_weights_stay_zero_whatever_the_codebook_says():
    form = _stored()["clusters"]["kernel"]
    dequantized = np.asarray(quantize.materialize(form, form.codebook + 1))
    assert (dequantized[~np.asarray(form.mask)] == 0).all()
    assert (
        dequantized[np.asarray(form.mask)] == np.asarray(form.codebook + 1)[form.indices][form.mask]
    ).all()


def test_what_is_learned_trains_with_any_optimiser():
    """Adam on the learned floats alone: nearer to a target, integers and masks as they were."""
    stored, target = _stored(), _weights(2)
    toward = {**dict.fromkeys(stored, target), "clusters": {"kernel": target, "bias": np.zeros(6)}}

    @jax.value_and_grad
    def loss(learned):
        params = quantize.materialize(stored, learned)
        return optax.tree.norm(jax.tree.map(jnp.subtract, params, toward), squared=True)

    learned = quantize.learnable(stored)
    assert {leaf.dtype for leaf in jax.tree.leaves(learned)} == {np.dtype("f4")}
    optimizer = optax.adam(0.1)

    @jax.jit
    def step(learned, state):
        value, gradients = loss(learned)
        updates, state = optimizer.update(gradients, state, learned)
        return optax.apply_updates(learned, updates), state, value

    state, values = optimizer.init(learned), []
    for _ in range(30):
        learned, state, value = step(learned, state)
        values.append(float(value))
    assert values[-1] < 0.8 * values[0]
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), learned, quantize.learnable(stored))
    assert all(jax.tree.leaves(moved))
    same = quantize.materialize(stored, quantize.learnable(stored))
    jax.tree.map(np.testing.assert_array_equal, same, quantize.materialize(stored))


def test_replicates_map():
    one, two = (archives.shared(_weights(seed), 3) for seed in (0, 1))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, two)
    mapped = jax.vmap(quantize.materialize)({"kernel": both})["kernel"]
    np.testing.assert_array_equal(mapped[0], quantize.dequantize(one))
    np.testing.assert_array_equal(mapped[1], quantize.dequantize(two))


def test_straight_through_has_the_value_of_one_and_both_gradients():
    x = np.float32([0.1, 1e-8, 3e7])
    value = jax.jit(lambda x: straight_through(jnp.float32([1, 2, 3]), x))(x)
    np.testing.assert_array_equal(value, [1, 2, 3])
    gradient = jax.grad(lambda x: jnp.sum(straight_through(jnp.round(x), 2 * x)))(x)
    np.testing.assert_array_equal(gradient, [2, 2, 2])
    gradient = jax.grad(lambda x: jnp.sum(straight_through(3 * x, 2 * x)))(x)
    np.testing.assert_array_equal(gradient, [5, 5, 5])


def test_other_paths_or_shapes_are_refused_in_one_line():
    stored = {"a": quantize.uniform(_weights(), 4), "b": quantize.ternary(_weights())}
    floats = quantize.learnable(stored)
    for learned, at in (
        ({**floats, "a": np.ones(6)}, ["a"]),
        ({"a": floats["a"], "b": {"positive": 1.0}}, ["b/negative"]),
        ({**floats, "c": 1.0}, ["c"]),
    ):
        message = f"learned differs from learnable(stored) in shape or path at {at}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            quantize.materialize(stored, learned)


def test_an_array_is_no_stored_form():
    with pytest.raises(ValueError, match=r"^no stored form: ndarray$"):
        quantize.dequantize(np.ones(2))


QUANTISERS = {
    "kmeans": lambda w: quantize.kmeans(w, 2),
    "kmeans, masked": lambda w: quantize.kmeans(w, 2, mask=jnp.abs(w) > 0.5),
    "uniform": lambda w: quantize.uniform(w, 4),
    "affine": lambda w: quantize.uniform(w, 4, symmetric=False),
    "of channels": lambda w: quantize.uniform(w, 4, axis=1),
    "ternary": quantize.ternary,
    "binary": lambda w: quantize.binary(w, scaled=True),
}


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("stack", [(4,), (2, 3)])
def test_a_stack_is_quantised_slice_by_slice(name, stack):
    """As many slices as columns: scales that met the wrong axis would broadcast."""
    quantise = over_stack = QUANTISERS[name]
    weights = _weights(2, (*stack, 5, 4)) * np.arange(1, 1 + np.prod(stack)).reshape(*stack, 1, 1)
    weights = weights.astype("f4")
    for _ in stack:
        over_stack = jax.vmap(over_stack)
    stored = over_stack(jnp.asarray(weights))
    got = quantize.materialize(stored)
    assert got.shape == weights.shape
    for index in np.ndindex(stack):
        expected = quantize.materialize(quantise(jnp.asarray(weights[index])))
        np.testing.assert_allclose(got[index], expected, rtol=1e-6, err_msg=str(index))
    learned = jax.tree.map(lambda leaf: leaf * 2, quantize.learnable(stored))
    np.testing.assert_allclose(quantize.materialize(stored, learned), 2 * got, rtol=1e-6)


@pytest.mark.parametrize("name", QUANTISERS)
def test_an_archive_holds_a_stack_bit_for_bit(name):
    weights = _weights(2, (4, 5, 4)) * np.float32([[[1]], [[2]], [[3]], [[4]]])
    stored = jax.vmap(QUANTISERS[name])(jnp.asarray(weights))
    array = np.asarray(quantize.materialize(stored))
    coded = streams.encode(stored, array)
    np.testing.assert_array_equal(streams.decode(*coded), array)


def test_an_archive_has_a_scale_for_each_slice():
    weights = _weights(2, (4, 50, 40)) * np.float32([[[1]], [[2]], [[3]], [[4]]])
    stored = jax.vmap(QUANTISERS["affine"])(jnp.asarray(weights))
    entry = streams.encode(stored, np.asarray(quantize.materialize(stored))).entry
    assert (entry.form, entry.axis) == ("scaled", 0)
