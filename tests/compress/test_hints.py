"""Hints against numpy, at their limits, and what they refuse."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import distill, hints
from groundwork.train import step
from groundwork.train.step import Batch
from tests.compress.students import CLASSES, Dense, dense, drawn, value_and_gradient

RNG = np.random.default_rng(0)
VALID = np.array([True] * 6 + [False] * 2)
PAIRS = (("two", "output"), ("output", "two"))  # each layer of one beside another of the teacher


class Pictures(nn.Module):
    """A network of convolutions whose first one has a stride."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.relu(nn.Conv(self.channels, (3, 3), strides=self.stride, name="one")(inputs))
        x = nn.relu(nn.Conv(4, (1, 1), name="two")(x))
        again = nn.Dense(4, name="again")
        return nn.Dense(CLASSES, name="output")(again(again(x)).mean((1, 2)))


@pytest.fixture(scope="module")
def batch():
    images = RNG.normal(size=(8, 3, 3, 1)).astype("f4")
    return Batch(jnp.asarray(images), jnp.asarray(RNG.integers(0, CLASSES, 8)), jnp.asarray(VALID))


@pytest.fixture(scope="module")
def teacher():
    return drawn(Dense(9), 1, seed=1)


@pytest.fixture(scope="module")
def student(teacher):
    """A student with regressors, which carries its teacher."""
    own = drawn(Dense())
    drawn_ = hints.regressors(jax.random.key(0), [(7, 9), (7, 9)])
    return distill.carry(hints.begin(own, drawn_), teacher)


@pytest.fixture(scope="module")
def losses():
    """Of the labels, with hints beside them, and of hints alone."""
    plain = step.make_loss(hints.looking(Dense(), [ours for ours, _ in PAIRS]))
    guide = hints.carried(Dense(9), [theirs for _, theirs in PAIRS])

    def base(key, variables, batch):
        return plain(key, distill.without_teachers(variables), batch)

    return (
        step.make_loss(Dense()),
        hints.make_loss(base, guide, 3.0),
        hints.make_loss(base, guide, 1.0, alone=True),
    )


def given(params, x):
    """What `Dense` hands on to its layers `two` and `output`, in numpy."""
    x = x.reshape(len(x), -1)
    one = np.maximum(x @ params["one"]["kernel"] + params["one"]["bias"], 0)
    two = np.maximum(one @ params["two"]["kernel"] + params["two"]["bias"], 0)
    return {"two": one, "output": two}


def hint(params, teacher, images):
    """Equation 3 as a mean, in numpy, of the pairs together."""
    ours, theirs = given(params, images), given(teacher, images)
    total = 0
    for number, (one, other) in enumerate(PAIRS):
        regressor = params[hints.REGRESSORS][str(number)]
        made = ours[one] @ regressor["kernel"] + regressor["bias"]
        total += 0.5 * np.square(made - theirs[other]).mean(-1)[VALID].mean()
    return total


def numpys(student, teacher):
    def double(leaf):
        return np.float64(leaf)

    return jax.tree.map(double, student["params"]), jax.tree.map(
        lambda leaf: double(leaf[0]), teacher
    )


def test_hints_stand_beside_the_loss_or_alone(student, teacher, batch, losses):
    plain, beside, alone = losses
    params, theirs = numpys(student, teacher["params"])
    expected = hint(params, theirs, np.asarray(batch.inputs, float))
    own = hints.without(distill.without_teachers(student))
    assert own.keys() == {"params"}
    np.testing.assert_allclose(
        dense(own["params"], np.asarray(batch.inputs)), Dense().apply(own, batch.inputs), rtol=1e-4
    )
    labels = value_and_gradient(plain, own, batch)
    with_hints, (updated, counts), _ = value_and_gradient(beside, student, batch)
    np.testing.assert_allclose(with_hints, labels[0] + 3 * expected, rtol=1e-4)
    np.testing.assert_allclose(counts.loss, labels[1][1].loss, rtol=1e-5)
    assert not updated
    np.testing.assert_allclose(value_and_gradient(alone, student, batch)[0], expected, rtol=1e-4)


def test_student_and_regressor_learn_from_hints_and_layers_behind_do_not(
    student, teacher, batch, losses
):
    *_, gradient = value_and_gradient(losses[2], student, batch)
    params, theirs = numpys(student, teacher["params"])
    images = np.asarray(batch.inputs, float)
    for place in (("one", "kernel", (4, 2)), (hints.REGRESSORS, "1", "kernel", (3, 5))):
        *path, at = place
        ends = []
        for change in (1e-5, -1e-5):
            moved = jax.tree.map(np.copy, params)
            leaf, found = moved, gradient
            for name in path:
                leaf, found = leaf[name], found[name]
            leaf[at] += change
            ends.append(hint(moved, theirs, images))
        np.testing.assert_allclose(found[at], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-5)
    assert not np.any(gradient["output"]["kernel"])


def test_hints_become_smaller(student, batch, losses):
    params, first = student["params"], None
    for _ in range(20):
        loss, _, gradient = value_and_gradient(losses[2], {**student, "params": params}, batch)
        first = loss if first is None else first
        params = optax.apply_updates(params, jax.tree.map(lambda g: -0.02 * g, gradient))
    assert loss < 0.5 * first


def test_regressors_are_convolutions_of_one_place():
    seen, wanted = RNG.normal(size=(2, 3, 3, 4)), RNG.normal(size=(2, 3, 3, 6))
    regressor = {"kernel": RNG.normal(size=(4, 6)), "bias": RNG.normal(size=6)}
    made = np.stack([[[regressor["kernel"].T @ c for c in row] for row in one] for one in seen])
    expected = 0.5 * np.square(made + regressor["bias"] - wanted).mean((1, 2, 3))
    given = jax.tree.map(jnp.float32, (regressor, seen, wanted))
    np.testing.assert_allclose(hints.distance(*given), expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"gives \(2, 3, 3, 6\), and the teacher \(2, 3, 3, 5\)"):
        hints.distance(given[0], given[1], given[2][..., :5])


def test_channels_are_read_from_shapes_and_places_must_be_equal():
    example = jax.ShapeDtypeStruct((2, 6, 6, 1), jnp.float32)

    def shaped(model):
        return model, jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(example.shape))

    small, large, strided = map(shaped, (Pictures(2), Pictures(5), Pictures(5, 2)))
    assert hints.sizes([("two", "two"), ("output", "output")], small, large, example) == [
        (2, 5),
        (4, 4),
    ]
    refused = {
        ("two", "two"): (
            strided,
            r"given \[6, 6, 2\] of an example and the teacher's 'two' \[3, 3",
        ),
        ("three", "two"): (large, "unknown layer of the student 'three'"),
        ("two", "fc"): (large, "unknown layer of the teacher 'fc'"),
        ("again", "two"): (large, "the student's layer 'again' is called more than once"),
    }
    for pair, (teacher, message) in refused.items():
        with pytest.raises(ValueError, match=message):
            hints.sizes([pair], small, teacher, example)
    with pytest.raises(ValueError, match="weight 0 must be positive and finite"):
        hints.make_loss(None, None, 0)
