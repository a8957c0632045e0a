"""Distillation of replicates with teachers of their own, on one device and on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import distill, share
from groundwork import keys, trees
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.train import programs, replicates
from groundwork.train.step import Batch, TrainState
from tests.compress.students import CLASSES, Dense, Normed, drawn, same, value_and_gradient

BATCH = 12
GROUPS = [("one/bias", "two/bias")]


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)

    def split(n):
        images = rng.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8)
        return Split(images, rng.integers(0, CLASSES, n).astype(np.int32))

    moments = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 0.25, np.float32)
    return Dataset("made", split(50), split(10), split(10), CLASSES, *moments)


@functools.cache
def _teachers_of_two_replicates():
    """Each replicate has teachers of its own: [R, K, …]."""
    shape = (1, 6, 6, 1)
    return drawn(Dense(9), 2, 2, shape=shape, seed=1), drawn(Normed(), 2, 1, shape=shape, seed=2)


def _train(dataset, rows, columns, steps):
    network = share.shared(Dense(), GROUPS)  # a student of another stage
    devices = mesh.make(2, BATCH, replicate=rows, data=columns, devices=jax.devices())
    loss_fn = distill.make_loss(
        network, distill.carried(Dense(9), Normed()), temperature=3.0, weight=0.5
    )
    compiled = programs.make(
        network, optax.sgd(0.1), dataset, devices, batch_size=BATCH, loss=loss_fn
    )
    roots = mesh.put(devices, keys.roots(3, 2), mesh.BY_REPLICATE)
    variables = distill.carry(compiled.init(roots), *_teachers_of_two_replicates())
    variables = mesh.put(devices, jax.device_get(variables), mesh.BY_REPLICATE)
    begin = jax.device_get(variables)
    zero = mesh.put(devices, np.zeros(2, np.int32), mesh.BY_REPLICATE)
    opt_state = replicates.each_replicate(devices, lambda v: optax.sgd(0.1).init(v["params"]))
    state = TrainState(zero, roots, variables, opt_state(variables))
    with compiled.feed(state.key, 0) as feed:
        end, tally = compiled.run_steps(state, feed, compiled.no_tally(2), 0, steps)
    evaluated = compiled.evaluate(end.variables, "test")
    return begin, jax.device_get(end.variables), jax.device_get(tally), jax.device_get(evaluated)


def test_replicates_learn_from_their_own_teachers_on_any_mesh(dataset):
    begin, alone, counted, evaluated = _train(dataset, 1, 1, 1)
    _, spread, tally, evaluated_spread = _train(dataset, 2, 2, 1)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())

    jax.tree.map(close, spread, alone)
    jax.tree.map(close, (tally, evaluated_spread), (counted, evaluated))
    same(alone["teachers"], begin["teachers"])
    # one step of a replicate, by the loss itself and plain SGD
    network = share.shared(Dense(), GROUPS)
    for replicate in range(2):
        before = trees.replicate(begin, replicate)
        order = np.asarray(data_lib.epoch_order(keys.roots(3, 2)[replicate], 0, 50))[:BATCH]
        images = (dataset.train.inputs[order] / np.float32(255) - np.float32(0.5)) * np.float32(4)
        batch = Batch(
            jnp.asarray(images),
            jnp.asarray(dataset.train.labels[order]),
            jnp.ones(BATCH, bool),
        )
        wide, other = (trees.replicate(tree, replicate) for tree in _teachers_of_two_replicates())
        teacher = distill.fixed((Dense(9), wide), (Normed(), other))
        loss_fn = distill.make_loss(network, teacher, temperature=3.0, weight=0.5)
        _, _, gradient = value_and_gradient(loss_fn, distill.without_teachers(before), batch)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, before["params"], gradient)
        jax.tree.map(close, trees.replicate(alone["params"], replicate), expected)
