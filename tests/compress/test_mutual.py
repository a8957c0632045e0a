"""Mutual learning against numpy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from compress import mutual
from groundwork import trees
from groundwork.train.step import Batch
from tests.compress.students import (
    CLASSES,
    Dense,
    Normed,
    dense,
    drawn,
    same,
    value_and_gradient,
)

RNG = np.random.default_rng(0)
VALID = np.array([True] * 6 + [False] * 2)
STUDENTS = 3


@pytest.fixture(scope="module")
def batch():
    images = RNG.normal(size=(8, 3, 3, 1)).astype("f4")
    return Batch(jnp.asarray(images), jnp.asarray(RNG.integers(0, CLASSES, 8)), jnp.asarray(VALID))


@pytest.fixture(scope="module")
def students():
    return [drawn(Dense(), seed=seed) for seed in range(STUDENTS)]


@pytest.fixture(scope="module")
def loss_fn():
    return mutual.make_loss(Dense(), STUDENTS)


def loss_of(number, params, batch):
    """Of one student, in numpy: cross-entropy, and the mean of KL(p_j ‖ p_i) over the others."""
    images, labels = np.asarray(batch.inputs, float), np.asarray(batch.labels)
    answers = [log_softmax(dense(one, images), -1)[VALID] for one in params]
    own = answers[number]
    others = [answer for other, answer in enumerate(answers) if other != number]
    apart = [(np.exp(other) * (other - own)).sum(-1) for other in others]
    hard = -own[np.arange(6), labels[VALID]]
    return (hard + np.mean(apart, 0)).mean(), hard


def test_each_student_has_its_cross_entropy_and_its_distance_from_the_others(
    loss_fn, students, batch
):
    total, (updated, counts), _ = value_and_gradient(loss_fn, mutual.join(*students), batch)
    params = [one["params"] for one in students]
    each = [loss_of(number, params, batch) for number in range(STUDENTS)]
    np.testing.assert_allclose(total, sum(loss for loss, _ in each), rtol=1e-4)
    np.testing.assert_allclose(counts.loss, each[0][1].sum(), rtol=1e-4)  # of the first alone
    assert counts.examples == 6
    assert updated == {}


def test_each_student_learns_as_if_the_others_were_constants(loss_fn, students, batch):
    *_, gradient = value_and_gradient(loss_fn, mutual.join(*students), batch)
    double = [jax.tree.map(lambda leaf: np.float64(leaf), one["params"]) for one in students]
    for number in range(STUDENTS):
        for layer, leaf, place in (("one", "kernel", (4, 2)), ("output", "bias", (1,))):
            ends = []
            for change in (1e-5, -1e-5):
                moved = jax.tree.map(np.copy, double)
                moved[number][layer][leaf][place] += change
                ends.append(loss_of(number, moved, batch)[0])
            expected = (ends[0] - ends[1]) / 2e-5
            found = gradient[str(number)][layer][leaf][place]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_no_student_comes_first(loss_fn, students, batch):
    """Students that change places change gradients: none of them learns from a newer one."""
    one, _, gradient = value_and_gradient(loss_fn, mutual.join(*students), batch)
    other, _, turned = value_and_gradient(loss_fn, mutual.join(*students[::-1]), batch)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for number in range(STUDENTS):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            gradient[str(number)],
            turned[str(STUDENTS - 1 - number)],
        )


def test_students_have_statistics_of_their_own_and_the_first_one_answers(batch):
    variables = [drawn(Normed(), seed=seed) for seed in (1, 2)]
    joined = mutual.join(*variables)
    whole = batch._replace(valid=jnp.ones(8, bool))
    loss = jax.vmap(  # a mesh axis, over which `Normed` averages
        lambda _: mutual.make_loss(Normed(), 2)(jax.random.key(0), joined, whole)[1][0],
        axis_name="data",
    )
    updated = jax.eval_shape(loss, jnp.zeros(1))
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(joined["batch_stats"])
    answers = mutual.together(Normed()).apply(joined, batch.inputs, train=False)
    same(answers, Normed().apply(variables[0], batch.inputs))
    same(mutual.student(joined, 1), variables[1])
    assert trees.flatten(joined).keys() >= {"params/0/output/bias", "batch_stats/1/bn/mean"}


def test_what_cannot_teach_each_other_is_refused(students, batch):
    for call in (lambda: mutual.make_loss(Dense(), 1), lambda: mutual.join(students[0])):
        with pytest.raises(ValueError, match=r"cannot teach each other: it takes two$"):
            call()
    with pytest.raises(ValueError, match="the students' collections differ"):
        mutual.join(students[0], drawn(Normed()))
