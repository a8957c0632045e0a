"""Distillation against numpy, and at its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from compress import distill
from groundwork import trees
from groundwork.train import step
from groundwork.train.step import Batch
from tests.compress.students import (
    CLASSES,
    Dense,
    Normed,
    dense,
    drawn,
    normed,
    same,
    value_and_gradient,
)

RNG = np.random.default_rng(0)
VALID = np.array([True] * 6 + [False] * 2)


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
    wide, other = drawn(Dense(9), 2, seed=1), drawn(Normed(), 1, seed=2)

    def answers(images):
        runs = [trees.replicate(wide, k)["params"] for k in range(2)]
        last = trees.replicate(other, 0)
        return np.stack([*(dense(run, images) for run in runs), normed(last, images)])

    return wide, other, answers


def softened(logits, temperature, mean):
    if mean == "geometric":
        return log_softmax(logits.mean(0) / temperature, -1)
    return logsumexp(log_softmax(logits / temperature, -1), 0) - np.log(len(logits))


def kl(target, logits, temperature):
    return (np.exp(target) * (target - log_softmax(logits / temperature, -1))).sum(-1)


# the soft part


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_answers_with_a_mean_of_its_distributions(mean):
    logits = 4 * RNG.normal(size=(3, 6, CLASSES))
    answers = distill.soften(jnp.float32(logits), 2.5, mean)
    np.testing.assert_allclose(answers, softened(logits, 2.5, mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(answers).sum(-1), 1, rtol=1e-6)
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
    logits, teacher = 3 * RNG.normal(size=(2, 6, CLASSES))
    target = log_softmax(teacher / temperature, -1)

    def total(student):
        divergences = distill.divergence(student, jnp.float32(target), temperature)
        return divergences.sum(), divergences

    (_, divergences), gradient = jax.value_and_grad(total, has_aux=True)(jnp.float32(logits))
    expected = temperature**2 * kl(target, logits, temperature)
    np.testing.assert_allclose(divergences, expected, rtol=1e-4, atol=1e-5)
    # equation 2 with T²: T × (student's − teacher's probabilities)
    expected = temperature * (softmax(logits / temperature, -1) - np.exp(target))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_nothing_diverges_from_itself():
    logits = jnp.float32(3 * RNG.normal(size=(6, CLASSES)))
    for temperature in (1.0, 20.0):
        target = distill.soften(logits, temperature)
        same(distill.divergence(logits, target, temperature), np.zeros(6))


def test_at_high_temperature_centred_logits_are_matched():
    """Hinton et al., equation 4, times T²: (z − v) / C of centred logits, whatever T is."""
    student, teacher = 3 * RNG.normal(size=(2, 6, CLASSES)) + [[[5.0]], [[-2.0]]]
    centred = student - student.mean(-1, keepdims=True)
    apart = centred - (teacher - teacher.mean(-1, keepdims=True))
    for temperature, tolerance in ((100.0, 0.05), (1000.0, 0.01)):
        target = distill.soften(jnp.float32(teacher), temperature)

        def total(logits, target=target, temperature=temperature):
            return distill.divergence(logits, target, temperature).sum()

        gradient = jax.grad(total)(jnp.float32(student))
        np.testing.assert_allclose(gradient, apart / CLASSES, atol=tolerance * abs(apart).max())
    target = distill.soften(jnp.float32(teacher), 100.0)
    divergences = distill.divergence(jnp.float32(student), target, 100.0)
    np.testing.assert_allclose(divergences, (apart**2).sum(-1) / (2 * CLASSES), rtol=0.1)


# the loss of a student


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_loss_is_soft_and_hard_in_their_shares(batch, student, teachers, mean):
    wide, other, answers = teachers
    teacher = distill.fixed((Dense(9), wide), (Normed(), other))
    loss_fn = distill.make_loss(Dense(), teacher, temperature=3.0, weight=0.7, mean=mean)
    loss, (updated, counts), _ = value_and_gradient(loss_fn, student, batch)
    images, labels = np.asarray(batch.inputs, float), np.asarray(batch.labels)
    logits = dense(student["params"], images)
    hard = -log_softmax(logits, -1)[np.arange(8), labels][VALID]
    target = softened(answers(images), 3.0, mean)
    soft = 9 * kl(target, logits, 3.0)[VALID]
    np.testing.assert_allclose(loss, 0.7 * soft.mean() + 0.3 * hard.mean(), rtol=1e-4)
    np.testing.assert_allclose(counts.loss, hard.sum(), rtol=1e-4)
    right = (logits.argmax(-1) == labels)[VALID].sum()
    assert (counts.measures["accuracy"], counts.examples) == (right, 6)
    assert not updated.get("batch_stats")


def test_padding_counts_nowhere(batch, student, teachers):
    wide, _, _ = teachers
    loss_fn = distill.make_loss(
        Dense(), distill.fixed((Dense(9), wide)), temperature=3.0, weight=0.7
    )
    other = batch._replace(
        inputs=batch.inputs.at[~VALID].set(7.0), labels=batch.labels.at[~VALID].add(1) % CLASSES
    )
    padded, expected = (value_and_gradient(loss_fn, student, b) for b in (other, batch))
    same(padded, expected)
    whole = batch._replace(valid=jnp.ones(8, bool))
    assert value_and_gradient(loss_fn, student, whole)[0] != expected[0]


def test_without_weight_it_is_the_plain_loss_exactly(batch, student):
    def silent(variables, inputs):
        raise AssertionError("a teacher was asked")

    unweighted = distill.make_loss(Dense(), silent, temperature=3.0, weight=0)
    plain = step.make_loss(Dense())
    same(*(value_and_gradient(loss_fn, student, batch) for loss_fn in (unweighted, plain)))


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
    gradient, expected = (value_and_gradient(loss_fn, student, batch)[2] for loss_fn in losses)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient, expected
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
    expected, result = (
        value_and_gradient(fixed, student, batch),
        value_and_gradient(carried, carrying, batch),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), result, expected
    )
    same(distill.without_teachers(carrying), student)


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
