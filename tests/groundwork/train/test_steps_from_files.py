"""Training from files computes what a plain loop over the same batches computes."""

import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork import keys
from groundwork.data import dataset as data_lib
from groundwork.data import loader
from groundwork.devices import mesh
from groundwork.train import programs, step
from groundwork.train.step import Batch, TrainState
from tests.groundwork import memory

BATCH, HELD, RATE = 8, 9, 0.1
SPEC = data_lib.DataSpec("memory", "tfds", stream=True, augment="crop_flip")


class Dense(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        return nn.Dense(7, name="two")(nn.relu(nn.Dense(9, name="one")(x)))


@pytest.fixture(scope="module")
def streams():
    half = np.full((1, 1, 1, 3), 0.5, np.float32)
    made = memory.streams_of(memory.images_of(40), held=HELD)
    return made._replace(spec=SPEC, mean=half, std=half / 2)


def _compile(streams, rows, columns):
    devices = mesh.make(2, BATCH, replicate=rows, data=columns)
    compiled = programs.make(Dense(), optax.sgd(RATE), streams, devices, batch_size=BATCH)
    roots = mesh.put(devices, keys.roots(3, 2), mesh.BY_REPLICATE)
    zero = mesh.put(devices, np.zeros(2, np.int32), mesh.BY_REPLICATE)
    return compiled, TrainState(zero, roots, compiled.init(roots), optax.sgd(RATE).init({}))


def _run(compiled, state, start, stop):
    with compiled.feed(state.key, start) as feed:
        return compiled.run_steps(state, feed, compiled.no_tally(2), start, stop)


def _inputs(images):
    return (images.astype(np.float32) / 255 - 0.5) / 0.25


def test_steps_are_those_of_a_plain_loop_over_its_replicates_batches(streams):
    compiled, state = _compile(streams, 1, 1)
    roots, variables = jnp.copy(state.key), jax.device_get(state.variables)
    final, tally = _run(compiled, state, 2, 7)
    train_step = step.make_train_step(step.make_loss(Dense()), optax.sgd(RATE))
    for replicate, root in enumerate(roots):
        high, low = np.asarray(jax.random.key_data(keys.stream(root, "order"))).tolist()
        share = {"batch_size": BATCH, "parts": 1, "part": 0}
        source = loader.train_batches(streams, SPEC, [(high << 32) + low], 2, **share)
        own = jax.tree.map(lambda a, r=replicate: jnp.asarray(a[r]), variables)
        plain, losses = TrainState(jnp.int32(0), root, own, optax.sgd(RATE).init({})), []
        for _ in range(5):
            images, labels = next(source)
            batch = Batch(_inputs(images[0]), jnp.asarray(labels[0]), jnp.ones(BATCH, bool))
            plain, (loss, _) = train_step(plain, batch)
            losses.append(float(loss))
        source.close()
        got = jax.tree.map(lambda a, r=replicate: a[r], final.variables)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(plain.variables), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        np.testing.assert_allclose(tally.counts.loss[replicate], BATCH * sum(losses), rtol=1e-5)
    assert np.asarray(tally.counts.examples).tolist() == [5 * BATCH] * 2


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 4)])
def test_any_mesh_trains_on_the_same_batches(streams, rows, columns):
    (one, first), (many, second) = (
        _compile(streams, *shape) for shape in ((1, 1), (rows, columns))
    )
    alone, counted = _run(one, first, 0, 2)
    spread, tally = _run(many, second, 0, 2)
    for a, b in zip(*(jax.tree.leaves(s.variables) for s in (alone, spread)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(
        counted.counts.measures["accuracy"], tally.counts.measures["accuracy"]
    )
    np.testing.assert_array_equal(counted.counts.examples, tally.counts.examples)


def test_six_steps_are_three_and_three_more_bit_for_bit(streams):
    compiled, state = _compile(streams, 1, 1)
    copy = jax.tree.map(jnp.copy, state)
    whole, _ = _run(compiled, state, 0, 6)
    half, _ = _run(compiled, copy, 0, 3)
    again, _ = _run(compiled, half, 3, 6)
    for a, b in zip(*(jax.tree.leaves(s.variables) for s in (whole, again)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("columns", [1, 4])
def test_evaluation_counts_each_example_once_without_augmentation(streams, columns):
    compiled, state = _compile(streams, 1, columns)
    params = jax.device_get(state.variables["params"])
    for name, source in (("validation", streams.validation), ("test", streams.test)):
        counts = compiled.evaluate(state.variables, name)
        images = _inputs(np.stack([source[i]["image"] for i in range(len(source))]))
        labels = np.asarray([source[i]["label"] for i in range(len(source))])
        assert np.asarray(counts.examples).tolist() == [len(source)] * 2
        for r in range(2):
            one, two = (jax.tree.map(lambda a, r=r: a[r], params[k]) for k in ("one", "two"))
            hidden = np.maximum(images.reshape(len(source), -1) @ one["kernel"] + one["bias"], 0)
            logits = hidden @ two["kernel"] + two["bias"]
            assert int(counts.measures["accuracy"][r]) == (logits.argmax(1) == labels).sum()


def test_no_thread_outlives_its_feed(streams):
    compiled, state = _compile(streams, 1, 1)
    with compiled.feed(state.key, 0) as feed:
        next(feed)
        assert "prefetch" in {thread.name for thread in threading.enumerate()}
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
