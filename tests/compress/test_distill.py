"""Distillation against numpy, at its limits, and on any mesh."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from compress import distill, share
from groundwork import keys
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.train import programs, replicates, step
from groundwork.train.step import Batch, TrainState

RNG = np.random.default_rng(0)
CLASSES, BATCH = 5, 12
VALID = np.array([True] * 6 + [False] * 2)


class Dense(nn.Module):
    units: int = 7

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        x = nn.relu(nn.Dense(self.units, name="one")(x))
        x = nn.relu(nn.Dense(self.units, name="two")(x))
        return nn.Dense(CLASSES, name="output")(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        x = nn.BatchNorm(not train, axis_name="data" if train else None, name="bn")(x)
        return nn.Dense(CLASSES, name="output")(x)


def dense(params, x):
    """`Dense` in numpy, float64."""
    x = x.reshape(len(x), -1)
    for name in ("one", "two"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def normed(variables, x):
    """`Normed` in numpy, in evaluation."""
    params, stats = variables["params"], variables["batch_stats"]["bn"]
    x = (x.reshape(len(x), -1) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    x = x * params["bn"]["scale"] + params["bn"]["bias"]
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def drawn(model, *leading, shape=(1, 3, 3, 1)):
    """Variables from numpy, with leading axes."""
    found = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree.map(
        lambda leaf: (
            RNG.uniform(0.2, 1.5, (*leading, *leaf.shape)).astype("f4")
            if leaf.ndim == 1
            else RNG.normal(size=(*leading, *leaf.shape)).astype("f4")
        ),
        found,
    )


@pytest.fixture(scope="module")
def batch():
    images = RNG.normal(size=(8, 3, 3, 1)).astype("f4")
    return Batch(jnp.asarray(images), jnp.asarray(RNG.integers(0, CLASSES, 8)), jnp.asarray(VALID))


@pytest.fixture(scope="module")
def student():
    return drawn(Dense())


@pytest.fixture(scope="module")
def teachers():
    """Two runs of a wider network, one of another architecture; and what they answer in numpy."""
    wide, other = drawn(Dense(9), 2), drawn(Normed(), 1)

    def answers(images):
        runs = [jax.tree.map(lambda leaf, k=k: leaf[k], wide)["params"] for k in range(2)]
        last = jax.tree.map(lambda leaf: leaf[0], other)
        return np.stack([*(dense(run, images) for run in runs), normed(last, images)])

    return wide, other, answers


def softened(logits, temperature, mean):
    if mean == "geometric":
        return log_softmax(logits.mean(0) / temperature, -1)
    return logsumexp(log_softmax(logits / temperature, -1), 0) - np.log(len(logits))


def kl(target, logits, temperature):
    return (np.exp(target) * (target - log_softmax(logits / temperature, -1))).sum(-1)


def value_and_gradient(loss_fn, variables, batch):
    def loss(params):
        return loss_fn(jax.random.key(0), {**variables, "params": params}, batch)

    function = jax.value_and_grad(loss, has_aux=True)
    quickly = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
    (found, aux), gradient = quickly(variables["params"])
    return found, aux, gradient


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# the soft part


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_answers_with_a_mean_of_its_distributions(mean):
    logits = 4 * RNG.normal(size=(3, 6, CLASSES))
    found = distill.soften(jnp.float32(logits), 2.5, mean)
    np.testing.assert_allclose(found, softened(logits, 2.5, mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-6)
    alone = distill.soften(jnp.float32(logits[0]), 2.5, mean)
    same(alone, distill.soften(jnp.float32(logits[:1]), 2.5, mean))
    np.testing.assert_allclose(alone, log_softmax(logits[0] / 2.5, -1), rtol=1e-5, atol=1e-6)


def test_arithmetic_is_the_default_and_of_probabilities():
    """A teacher that is sure and one that knows nothing: (1, 0, 0) and thirds; by hand."""
    logits = jnp.array([[[50.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
    np.testing.assert_allclose(np.exp(distill.soften(logits, 1.0)), [[2 / 3, 1 / 6, 1 / 6]], 1e-5)
    geometric = np.exp(distill.soften(logits, 1.0, "geometric"))
    np.testing.assert_allclose(geometric, [[1, 0, 0]], atol=1e-6)  # the logits' mean is 25


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_and_its_gradient_are_numpys(temperature):
    own, teacher = 3 * RNG.normal(size=(2, 6, CLASSES))
    target = log_softmax(teacher / temperature, -1)

    def total(logits):
        found = distill.divergence(logits, jnp.float32(target), temperature)
        return found.sum(), found

    (_, found), gradient = jax.value_and_grad(total, has_aux=True)(jnp.float32(own))
    expected = temperature**2 * kl(target, own, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # equation 2 with T²: T × (student's − teacher's probabilities)
    expected = temperature * (softmax(own / temperature, -1) - np.exp(target))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_nothing_diverges_from_itself():
    logits = jnp.float32(3 * RNG.normal(size=(6, CLASSES)))
    for temperature in (1.0, 20.0):
        target = distill.soften(logits, temperature)
        same(distill.divergence(logits, target, temperature), np.zeros(6))


def test_at_high_temperature_centred_logits_are_matched():
    """Hinton et al., equation 4, times T²: (z − v) / C of centred logits, whatever T is."""
    own, teacher = 3 * RNG.normal(size=(2, 6, CLASSES)) + [[[5.0]], [[-2.0]]]
    apart = (own - own.mean(-1, keepdims=True)) - (teacher - teacher.mean(-1, keepdims=True))
    for temperature, tolerance in ((100.0, 0.05), (1000.0, 0.01)):
        target = distill.soften(jnp.float32(teacher), temperature)

        def total(logits, target=target, temperature=temperature):
            return distill.divergence(logits, target, temperature).sum()

        gradient = jax.grad(total)(jnp.float32(own))
        np.testing.assert_allclose(gradient, apart / CLASSES, atol=tolerance * abs(apart).max())
    target = distill.soften(jnp.float32(teacher), 100.0)
    found = distill.divergence(jnp.float32(own), target, 100.0)
    np.testing.assert_allclose(found, (apart**2).sum(-1) / (2 * CLASSES), rtol=0.1)


# the loss of a student


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_loss_is_soft_and_hard_in_their_shares(batch, student, teachers, mean):
    wide, other, answers = teachers
    teacher = distill.fixed((Dense(9), wide), (Normed(), other))
    loss_fn = distill.make_loss(Dense(), teacher, temperature=3.0, weight=0.7, mean=mean)
    found, (updated, counts), _ = value_and_gradient(loss_fn, student, batch)
    images, labels = np.asarray(batch.inputs, float), np.asarray(batch.labels)
    own = dense(student["params"], images)
    hard = -log_softmax(own, -1)[np.arange(8), labels][VALID]
    target = softened(answers(images), 3.0, mean)
    soft = 9 * kl(target, own, 3.0)[VALID]
    np.testing.assert_allclose(found, 0.7 * soft.mean() + 0.3 * hard.mean(), rtol=1e-4)
    np.testing.assert_allclose(counts.loss, hard.sum(), rtol=1e-4)
    right = (own.argmax(-1) == labels)[VALID].sum()
    assert (counts.correct, counts.examples) == (right, 6)
    assert not updated.get("batch_stats")


def test_padding_counts_nowhere(batch, student, teachers):
    wide, _, _ = teachers
    loss_fn = distill.make_loss(
        Dense(), distill.fixed((Dense(9), wide)), temperature=3.0, weight=0.7
    )
    other = batch._replace(
        inputs=batch.inputs.at[~VALID].set(7.0), labels=batch.labels.at[~VALID].add(1) % CLASSES
    )
    found, expected = (value_and_gradient(loss_fn, student, b) for b in (other, batch))
    same(found, expected)
    whole = batch._replace(valid=jnp.ones(8, bool))
    assert value_and_gradient(loss_fn, student, whole)[0] != expected[0]


def test_without_weight_it_is_the_plain_loss_exactly(batch, student):
    def silent(variables, inputs):
        raise AssertionError("a teacher was asked")

    found = distill.make_loss(Dense(), silent, temperature=3.0, weight=0)
    plain = step.make_loss(Dense())
    same(*(value_and_gradient(loss_fn, student, batch) for loss_fn in (found, plain)))


def test_with_all_the_weight_it_sees_no_label(batch, student, teachers):
    wide, _, _ = teachers
    teacher = distill.fixed((Dense(9), wide))
    loss_fn = distill.make_loss(Dense(), teacher, temperature=3.0, weight=1)
    other = batch._replace(labels=(batch.labels + 1) % CLASSES)
    (one, (_, a), first), (two, (_, b), second) = (
        value_and_gradient(loss_fn, student, given) for given in (batch, other)
    )
    same((one, first), (two, second))
    assert a.loss != b.loss  # what is counted does


def test_nothing_pulls_on_the_teacher(batch, student):
    """A teacher that is twice the student itself: as if its answers were constants."""
    model = Dense()

    def doubled(variables, inputs):
        return 2 * model.apply(variables, inputs)

    answers = 2 * model.apply(student, batch.inputs)
    losses = [
        distill.make_loss(model, teacher, temperature=2.0, weight=1)
        for teacher in (doubled, lambda variables, inputs: answers)
    ]
    found, expected = (value_and_gradient(loss_fn, student, batch)[2] for loss_fn in losses)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )
    assert max(abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 0.01


def test_carried_teachers_are_the_fixed_ones(batch, student, teachers):
    wide, other, _ = teachers
    options = {"temperature": 3.0, "weight": 0.7}
    fixed = distill.make_loss(
        Dense(), distill.fixed((Dense(9), wide), (Normed(), other)), **options
    )
    carried = distill.make_loss(Dense(), distill.carried(Dense(9), Normed()), **options)
    carrying = distill.carry(student, wide, other)
    expected, found = (
        value_and_gradient(fixed, student, batch),
        value_and_gradient(carried, carrying, batch),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )
    same(distill.without_teachers(carrying), student)


# on a mesh


@pytest.fixture(scope="module")
def dataset():
    def split(n):
        images = RNG.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8)
        return Split(images, RNG.integers(0, CLASSES, n).astype(np.int32))

    moments = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 0.25, np.float32)
    return Dataset("made", split(50), split(10), split(10), CLASSES, *moments)


GROUPS = [("one/bias", "two/bias")]


@functools.cache
def _teachers_of_two_replicates():
    """[R, K, …]: each replicate has two of its own."""
    return drawn(Dense(9), 2, 2, shape=(1, 6, 6, 1)), drawn(Normed(), 2, 1, shape=(1, 6, 6, 1))


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
    _, spread, tally, also = _train(dataset, 2, 2, 1)

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())

    jax.tree.map(close, spread, alone)
    jax.tree.map(close, (tally, also), (counted, evaluated))
    same(alone["teachers"], begin["teachers"])
    # one step of a replicate, by the loss itself and plain SGD
    network = share.shared(Dense(), GROUPS)
    for replicate in range(2):
        own = jax.tree.map(lambda leaf, r=replicate: leaf[r], begin)
        order = np.asarray(data_lib.epoch_order(keys.roots(3, 2)[replicate], 0, 50))[:BATCH]
        images = (dataset.train.inputs[order] / np.float32(255) - np.float32(0.5)) * np.float32(4)
        given = Batch(
            jnp.asarray(images),
            jnp.asarray(dataset.train.labels[order]),
            jnp.ones(BATCH, bool),
        )
        wide, other = (
            jax.tree.map(lambda leaf, r=replicate: leaf[r], tree)
            for tree in _teachers_of_two_replicates()
        )
        teacher = distill.fixed((Dense(9), wide), (Normed(), other))
        loss_fn = distill.make_loss(network, teacher, temperature=3.0, weight=0.5)
        _, _, gradient = value_and_gradient(loss_fn, distill.without_teachers(own), given)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, own["params"], gradient)
        found = jax.tree.map(lambda leaf, r=replicate: leaf[r], alone["params"])
        jax.tree.map(close, found, expected)


# what is refused


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), float("nan")])
def test_temperatures_are_positive_and_finite(temperature):
    logits = jnp.zeros((2, 3))
    for call in (
        lambda: distill.soften(logits, temperature),
        lambda: distill.divergence(logits, logits, temperature),
        lambda: distill.make_loss(Dense(), distill.carried(), temperature=temperature, weight=0.5),
    ):
        with pytest.raises(ValueError, match=r"^temperature .* must be positive and finite$"):
            call()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weights_are_shares(weight):
    with pytest.raises(ValueError, match=rf"^weight {weight} is outside \[0, 1\]$"):
        distill.make_loss(Dense(), distill.carried(), temperature=1.0, weight=weight)


def test_what_is_no_ensemble_is_refused(batch, student, teachers):
    wide, _, _ = teachers
    with pytest.raises(ValueError, match=r"unknown mean 'median' \(known: arithmetic, geometric\)"):
        distill.make_loss(Dense(), distill.carried(), temperature=1.0, weight=0.5, mean="median")
    for shape in [(3,), (0, 2, 3), (1, 2, 3, 4)]:
        with pytest.raises(ValueError, match=r"must be \[K, B, C\] or \[B, C\]"):
            distill.soften(jnp.zeros(shape), 1.0)
    with pytest.raises(ValueError, match="there is no teacher"):
        distill.fixed()
    for tree in ({"params": {"a": np.zeros(())}}, {"a": np.ones(2), "b": np.ones(3)}, {}):
        with pytest.raises(ValueError, match="need one leading axis, of its runs"):
            distill.fixed((Dense(), tree))
    given = functools.partial(distill.carried(Dense(9), Normed()), inputs=batch.inputs)
    for variables, number in ((student, 0), (distill.carry(student, wide), 1)):
        with pytest.raises(
            ValueError, match=rf"carry {number} teachers, not 2: see distill\.carry"
        ):
            given(variables)
    fewer = distill.make_loss(
        Dense(), lambda variables, inputs: jnp.zeros((8, 4)), temperature=1.0, weight=0.5
    )
    with pytest.raises(ValueError, match=r"logits are \(8, 5\), its teachers' \(8, 4\)"):
        fewer(jax.random.key(0), student, batch)
