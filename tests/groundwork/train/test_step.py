"""One step, against gradients worked out by hand in numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from groundwork.train import losses, step
from groundwork.train.step import Batch, TrainState


class Linear(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.Dense(3, name="output")(inputs)


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(inputs)


def _batch(rng, examples=8, valid=None):
    inputs = rng.normal(size=(examples, 5)).astype(np.float32)
    labels = rng.integers(0, 3, examples).astype(np.int32)
    valid = np.ones(examples, bool) if valid is None else valid
    return Batch(jnp.asarray(inputs), jnp.asarray(labels), jnp.asarray(valid))


def _state(model, optimizer, batch):
    variables = model.init(jax.random.key(1), batch.inputs)
    params = variables.get("params", {})
    return TrainState(jnp.int32(0), jax.random.key(2), variables, optimizer.init(params))


def test_a_step_of_sgd_is_the_gradient_worked_out_by_hand():
    batch = _batch(np.random.default_rng(0))
    model, optimizer = Linear(), optax.sgd(0.5)
    state = _state(model, optimizer, batch)
    new, (loss, counts) = step.make_train_step(step.make_loss(model), optimizer)(state, batch)

    kernel, bias = (
        np.asarray(state.variables["params"]["output"][k], np.float64) for k in ("kernel", "bias")
    )
    x, y = np.asarray(batch.inputs, np.float64), np.asarray(batch.labels)
    logits = x @ kernel + bias
    logp = scipy.special.log_softmax(logits, axis=-1)
    error = (np.exp(logp) - np.eye(3)[y]) / len(y)  # d loss / d logits
    np.testing.assert_allclose(loss, -logp[np.arange(8), y].mean(), rtol=1e-6)
    got = new.variables["params"]["output"]
    np.testing.assert_allclose(got["kernel"], kernel - 0.5 * x.T @ error, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got["bias"], bias - 0.5 * error.sum(0), rtol=1e-5, atol=1e-7)
    assert int(new.step) == 1
    assert int(counts.measures["accuracy"]) == (logits.argmax(-1) == y).sum()
    assert int(counts.examples) == 8


def test_padding_counts_nowhere():
    rng = np.random.default_rng(1)
    valid = np.array([True] * 5 + [False] * 3)
    whole = _batch(rng, valid=valid)
    part = Batch(*(leaf[:5] for leaf in whole))
    model = Linear()
    variables = model.init(jax.random.key(0), whole.inputs)
    a, b = (step.make_eval_step(model)(variables, batch) for batch in (whole, part))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-6)
    assert (int(a.measures["accuracy"]), int(a.examples)) == (int(b.measures["accuracy"]), 5)


def test_the_loss_of_short_logits_is_computed_in_float32():
    logits = jnp.asarray([[8.0, 0.0, 0.0]] * 300, jnp.bfloat16)
    counts = losses.count_cross_entropy(logits, jnp.zeros(300, jnp.int32), jnp.ones(300, bool))
    assert counts.loss.dtype == jnp.float32
    np.testing.assert_allclose(counts.loss, 300 * np.log1p(2 * np.exp(-8.0)), rtol=1e-3)


def test_parameters_and_moments_stay_float32_when_layers_compute_in_bfloat16():
    batch, optimizer = _batch(np.random.default_rng(0)), optax.adam(0.1)
    model = nn.Dense(3, dtype=jnp.bfloat16)
    state = _state(model, optimizer, batch)

    def loss_fn(key, variables, batch):
        counts = losses.count_cross_entropy(
            model.apply(variables, batch.inputs), batch.labels, batch.valid
        )
        return counts.loss / counts.examples, ({}, counts)

    new, (loss, _) = step.make_train_step(loss_fn, optimizer)(state, batch)
    floats = [leaf for leaf in jax.tree.leaves((new.variables, new.opt_state)) if leaf.ndim]
    assert {leaf.dtype for leaf in (*floats, loss)} == {jnp.dtype("float32")}
    assert not np.array_equal(
        new.variables["params"]["kernel"], state.variables["params"]["kernel"]
    )


def test_a_nan_in_padding_does_not_reach_the_sum():
    batch = _batch(np.random.default_rng(2), valid=np.arange(8) < 7)
    batch = batch._replace(inputs=batch.inputs.at[7].set(jnp.nan))
    model = Linear()
    counts = step.make_eval_step(model)(model.init(jax.random.key(0), batch.inputs), batch)
    assert np.isfinite(counts.loss)


def test_training_moves_batch_statistics_and_evaluation_reads_them():
    batch = _batch(np.random.default_rng(3))
    model, optimizer = Normalised(), optax.sgd(0.0)
    state = _state(model, optimizer, batch)
    new, _ = step.make_train_step(step.make_loss(model), optimizer)(state, batch)
    mean = new.variables["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * np.asarray(batch.inputs).mean(0), rtol=1e-4, atol=1e-6)
    one, two = (step.make_eval_step(model)(s.variables, batch).loss for s in (state, new))
    assert float(one) != float(two)


def test_the_key_is_folded_with_the_step_and_never_changes():
    seen = []

    def loss_fn(key, variables, batch):
        seen.append(jax.random.key_data(key))
        return variables["params"]["w"].sum(), (
            {},
            losses.Counts(*jnp.zeros(2), {"accuracy": jnp.zeros(())}),
        )

    state = TrainState(jnp.int32(0), jax.random.key(5), {"params": {"w": jnp.ones(2)}}, ())
    train_step = step.make_train_step(loss_fn, optax.identity())
    for _ in range(2):
        state, _ = train_step(state, None)
    assert not np.array_equal(seen[0], seen[1])
    assert jnp.array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(5)))


@pytest.mark.parametrize("stepped", [0, 7])
def test_the_optimiser_is_told_the_states_step(stepped):
    told = []

    def update(updates, state, params=None, *, step, **extra):
        told.append(int(step))
        return updates, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    batch = _batch(np.random.default_rng(4))
    model = Linear()
    state = _state(model, optimizer, batch).replace(step=jnp.int32(stepped))
    step.make_train_step(step.make_loss(model), optimizer)(state, batch)
    assert told == [stepped]
