"""Replicates, meshes and loops compute what a plain loop over one replicate computes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from groundwork import keys
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.train import losses, programs, step, steps_in_memory
from groundwork.train import replicates as mapping
from groundwork.train.step import Batch, TrainState

BATCH, TRAIN, HELD = 12, 50, 37


class Dense(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        return nn.Dense(4, name="two")(nn.relu(nn.Dense(9, name="one")(x)))


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.Conv(3, (3, 3), use_bias=False)(inputs)
        x = nn.BatchNorm(use_running_average=not train, axis_name="data" if train else None)(x)
        return nn.Dense(4)(nn.relu(x).mean((1, 2)))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)

    def split(n):
        images = rng.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8)
        return Split(images, rng.integers(0, 4, n).astype(np.int32))

    moments = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 0.25, np.float32)
    return Dataset("made", split(TRAIN), split(HELD), split(HELD), 4, *moments)


def _compile(model, dataset, rows, columns, replicates=2, form=None, rate=0.1):
    devices = mesh.make(replicates, BATCH, replicate=rows, data=columns, devices=jax.devices())
    compiled = programs.make(model, optax.sgd(rate), dataset, devices, batch_size=BATCH, form=form)
    roots = mesh.put(devices, keys.roots(3, replicates), mesh.BY_REPLICATE)
    variables = compiled.init(roots)
    state = TrainState(
        mesh.put(devices, np.zeros(replicates, np.int32), mesh.BY_REPLICATE),
        roots,
        variables,
        jax.vmap(optax.sgd(rate).init)(variables["params"]),
    )
    return compiled, state


def _run(compiled, state, start, stop):
    tally = compiled.no_tally(len(state.step))
    with compiled.feed(state.key, start) as feed:
        return compiled.run_steps(state, feed, tally, start, stop)


def _right(counts):
    """How many examples are classified correctly, [R]."""
    return np.asarray(counts.measures["accuracy"])


def _close(a, b, rtol):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-3))


def _plain(model, dataset, variables, root, steps):
    """One replicate, step by step, in numpy and optax alone."""
    optimizer = optax.sgd(0.1)
    train_step = step.make_train_step(step.make_loss(model), optimizer)
    state = TrainState(jnp.int32(0), root, variables, optimizer.init(variables["params"]))
    images = (dataset.train.inputs / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    losses = []
    for number in range(steps):
        epoch, place = divmod(number, TRAIN // BATCH)
        order = np.asarray(data_lib.epoch_order(root, epoch, TRAIN))[
            place * BATCH : (place + 1) * BATCH
        ]
        batch = Batch(
            jnp.asarray(images[order]),
            jnp.asarray(dataset.train.labels[order]),
            jnp.ones(BATCH, bool),
        )
        state, (loss, _) = train_step(state, batch)
        losses.append(float(loss))
    return state, losses


def test_replicates_are_what_a_plain_loop_over_epochs_gives(dataset):
    compiled, state = _compile(Dense(), dataset, 1, 1)
    roots, variables = jnp.copy(state.key), jax.device_get(state.variables)
    final, tally = _run(compiled, state, 0, 10)
    for replicate in range(2):
        own = jax.tree.map(lambda a, r=replicate: jnp.asarray(a[r]), variables)
        plain, losses = _plain(Dense(), dataset, own, roots[replicate], 10)
        got = jax.tree.map(lambda a, r=replicate: a[r], final.variables)
        _close(got, plain.variables, 1e-5)
        np.testing.assert_allclose(tally.counts.loss[replicate], np.sum(losses) * BATCH, rtol=1e-5)
    assert np.asarray(tally.counts.examples).tolist() == [10 * BATCH] * 2
    assert not np.array_equal(*np.asarray(jax.tree.leaves(final.variables)[0]))


@pytest.mark.parametrize("model", [Dense(), Convolutional()], ids=["dense", "batch-norm"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (2, 2), (2, 1)])
def test_a_step_on_any_mesh_equals_the_step_on_one_device(dataset, model, rows, columns):
    (one, first), (many, second) = (_compile(model, dataset, *s) for s in ((1, 1), (rows, columns)))
    alone, counted = _run(one, first, 0, 1)
    spread, tally = _run(many, second, 0, 1)
    _close(spread.variables, alone.variables, 1e-6)
    np.testing.assert_array_equal(
        tally.counts.measures["accuracy"], counted.counts.measures["accuracy"]
    )
    np.testing.assert_array_equal(tally.counts.examples, counted.counts.examples)


def test_looped_and_single_steps_agree(dataset):
    results = []
    for form in ("looped", "single"):
        compiled, state = _compile(Dense(), dataset, 1, 1, form=form)
        final, tally = _run(compiled, state, 0, 6)
        results.append((final.variables, tally.counts, compiled.evaluate(final.variables, "test")))
    _close(results[0], results[1], 1e-5)


def test_ten_steps_are_five_and_five_more_bit_for_bit(dataset):
    compiled, state = _compile(Dense(), dataset, 1, 1)
    copy = jax.tree.map(jnp.copy, state)
    whole, _ = _run(compiled, state, 0, 10)
    half, _ = _run(compiled, copy, 0, 5)
    again, _ = _run(compiled, half, 5, 10)  # with the order of its epoch drawn anew
    for a, b in zip(
        jax.tree.leaves(whole.variables), jax.tree.leaves(again.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_steps_and_evaluation_are_compiled_once(dataset):
    compiled, state = _compile(Dense(), dataset, 1, 1)
    for start, stop in ((0, 3), (3, 4), (4, 11)):
        state, _ = _run(compiled, state, start, stop)
        compiled.evaluate(state.variables, "validation")
    assert {name: f._cache_size() for name, f in compiled.jitted.items()} == dict.fromkeys(
        ("init", "order", "steps", "eval"), 1
    )


@pytest.mark.parametrize("columns", [1, 4])
def test_evaluation_counts_each_example_once(dataset, columns):
    compiled, state = _compile(Dense(), dataset, 1, columns)
    counts = compiled.evaluate(state.variables, "validation")
    assert np.asarray(counts.examples).tolist() == [HELD, HELD]
    images = (dataset.validation.inputs / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    params = jax.device_get(state.variables["params"])
    for replicate in range(2):
        one, two = (
            jax.tree.map(lambda a, r=replicate: a[r], params[name]) for name in ("one", "two")
        )
        hidden = np.maximum(images.reshape(HELD, -1) @ one["kernel"] + one["bias"], 0)
        logits = hidden @ two["kernel"] + two["bias"]
        assert (
            int(counts.measures["accuracy"][replicate])
            == (logits.argmax(1) == dataset.validation.labels).sum()
        )


def test_large_splits_are_evaluated_in_batches_of_equal_shape(dataset, monkeypatch):
    monkeypatch.setattr(steps_in_memory, "EVAL_BATCH", 10)
    compiled, state = _compile(Dense(), dataset, 1, 1)
    monkeypatch.undo()
    whole, again = _compile(Dense(), dataset, 1, 1)
    a, b = compiled.evaluate(state.variables, "test"), whole.evaluate(again.variables, "test")
    np.testing.assert_array_equal(_right(a), _right(b))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)


def test_the_first_step_whose_loss_is_not_finite_is_known(dataset):
    compiled, state = _compile(Dense(), dataset, 1, 1, rate=1e30)
    _, tally = _run(compiled, state, 0, 12)
    assert (np.asarray(tally.first_bad) < 4).all()
    compiled, state = _compile(Dense(), dataset, 1, 1)
    _, tally = _run(compiled, state, 0, 12)
    assert (np.asarray(tally.first_bad) == step.NEVER).all()


def test_each_share_of_a_batch_draws_its_own_random_numbers():
    def loss_fn(key, variables, batch):
        drawn = jax.random.uniform(key) + 0 * batch.sum()
        return variables["params"]["w"] * drawn, (
            {},
            losses.Counts(drawn, drawn, {"accuracy": drawn}),
        )

    devices = mesh.make(1, 4, data=4, devices=jax.devices())
    train_step = step.make_train_step(loss_fn, optax.identity(), axis="data")
    state = TrainState(jnp.int32(0), jax.random.key(0), {"params": {"w": jnp.ones(())}}, ())
    specs = (mesh.REPLICATED, jax.sharding.PartitionSpec("data"))
    mapped = jax.shard_map(
        lambda s, b: train_step(s, b)[1], mesh=devices, in_specs=specs, out_specs=mesh.REPLICATED
    )
    loss, counts = jax.jit(mapped)(state, jnp.ones(4))
    drawn = [
        float(
            jax.random.uniform(
                jax.random.fold_in(jax.random.fold_in(keys.stream(jax.random.key(0), "step"), 0), d)
            )
        )
        for d in range(4)
    ]
    assert len(set(drawn)) == 4
    np.testing.assert_allclose(counts.loss, sum(drawn), rtol=1e-6)
    np.testing.assert_allclose(loss, np.mean(drawn), rtol=1e-6)


def test_convolutions_on_a_cpu_get_single_steps_and_dense_models_a_loop():
    example = jnp.zeros((1, 6, 6, 1))
    assert mapping.default_form(Dense(), example) == "looped"
    assert mapping.default_form(Convolutional(), example) == "single"


@pytest.mark.parametrize(
    ("replicates", "batch", "devices", "shape"),
    [
        (3, 60, 4, (1, 4)),
        (4, 10, 4, (4, 1)),
        (2, 9, 4, (1, 3)),
        (3, 7, 2, (1, 1)),
        (2, 8, 4, (2, 2)),
    ],
)
def test_the_default_mesh(replicates, batch, devices, shape):
    made = mesh.make(replicates, batch, devices=jax.devices()[:devices])
    assert tuple(made.shape.values()) == shape


def test_what_is_called_once_is_compiled_quickly_unless_the_environment_asks_for_a_level(
    monkeypatch,
):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert mapping.quickly() == {"xla_backend_optimization_level": 1}
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert mapping.quickly() is None
