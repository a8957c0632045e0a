import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from groundwork.train.step import Batch
from msdnet import objective
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly
from tests.msdnet.dense import SHAPE, DenseExits

RNG = np.random.default_rng(0)
VALID = np.array([True] * 5 + [False])
MODEL = DenseExits()
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batch():
    images = RNG.normal(size=(6, *SHAPE)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(RNG.integers(0, 10, 6)), jnp.asarray(VALID))


@pytest.fixture(scope="module")
def variables():
    return as_float32(drawn_by_numpy(MODEL, SHAPE))


@pytest.fixture(scope="module")
def logits(batch, variables):
    """In training: K × [B, C], by the model's own call (its axis is that of one device)."""

    def all_exits(variables, images):
        return MODEL.apply(variables, images, True, mutable=["batch_stats"])[0]

    return [np.asarray(z, np.float64) for z in over_one_device(all_exits)(variables, batch.inputs)]


def over_one_device(function):
    """BatchNorm in training averages over the axis `data`."""

    def mapped(*args):
        return jax.vmap(lambda _: function(*args), axis_name="data")(jnp.zeros(1))

    return quickly(lambda *args: jax.tree.map(lambda leaf: leaf[0], mapped(*args)))


def loss_of(weights, variables, batch, **options):
    loss_fn = objective.make_loss(MODEL, weights, **options)
    return over_one_device(lambda v: loss_fn(KEY, v, batch))(variables)


def gradient_of(weights, variables, batch, **options):
    loss_fn = objective.make_loss(MODEL, weights, **options)

    def loss(params):
        return loss_fn(KEY, {**variables, "params": params}, batch)[0]

    return over_one_device(jax.grad(loss))(variables["params"])


def cross_entropies(logits, labels):
    each = [-log_softmax(z, -1)[np.arange(6), labels] for z in logits]
    return np.array([entropies[VALID].mean() for entropies in each])


def test_the_loss_is_the_weighted_sum_over_exits(batch, variables, logits):
    weights = (0.5, 0.0, 2.0)
    loss, (_, counts) = loss_of(weights, variables, batch)
    expected = np.dot(weights, cross_entropies(logits, np.asarray(batch.labels)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(counts.loss / 5, expected, rtol=1e-5)
    right = (logits[-1].argmax(-1) == np.asarray(batch.labels))[VALID].sum()
    assert (counts.measures["accuracy"], counts.examples) == (right, 5)


def test_right_ones_are_the_last_exits():
    labels = jnp.arange(6)
    right, wrong = 5 * jnp.eye(6), 5 * jnp.eye(6)[::-1]
    given = Batch(jnp.zeros(6), labels, jnp.asarray(VALID))
    count = functools.partial(objective.count_exits, weights=(1.0, 1.0), batch=given)
    assert count([wrong, right]).measures["accuracy"] == 5
    assert count([right, wrong]).measures["accuracy"] == 0


def test_distillation_adds_the_divergence_from_the_last_exit(batch, variables, logits):
    plain, _ = loss_of((1.0,) * 3, variables, batch)
    loss, (_, counts) = loss_of((1.0,) * 3, variables, batch, distillation=0.7, temperature=2.0)
    *earlier, last = (log_softmax(z / 2.0, -1) for z in logits)
    divergences = [(np.exp(last) * (last - log_p)).sum(-1)[VALID].mean() for log_p in earlier]
    np.testing.assert_allclose(loss - plain, 0.7 * 4 * sum(divergences), rtol=1e-4)
    np.testing.assert_allclose(counts.loss / 5, plain, rtol=1e-6)  # rows say the exits' own loss


def test_distillation_does_not_pull_on_the_last_exit(batch, variables):
    plain, helped = (
        gradient_of((0.0, 0.0, 1.0), variables, batch, distillation=weight) for weight in (0.0, 1.0)
    )
    jax.tree.map(np.testing.assert_array_equal, plain["classifier_2"], helped["classifier_2"])
    assert np.abs(helped["classifier_0"]["kernel"]).max() > 0
    assert not np.abs(plain["classifier_0"]["kernel"]).max()


def test_equilibrium_changes_gradients_alone_and_by_the_papers_factors(batch, variables):
    same = [loss_of((1.0,) * 3, variables, batch, equilibrium=on)[0] for on in (False, True)]
    assert same[0] == same[1]
    plain, scaled = (
        gradient_of((1.0, 0.0, 0.0), variables, batch, equilibrium=on) for on in (False, True)
    )
    # the coarsest features of the first block feel exit 0's loss times 1/3
    kernels = [gradient["backbone_0"]["coarser"]["kernel"] for gradient in (plain, scaled)]
    assert np.abs(kernels[0]).max() > 0
    np.testing.assert_allclose(kernels[1], kernels[0] / 3, rtol=1e-4, atol=1e-7)
    # its own classifier feels all of it
    heads = [gradient["classifier_0"] for gradient in (plain, scaled)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), *heads)


def test_evaluation_counts_the_same_way(batch, variables):
    counts = quickly(objective.make_evaluate(MODEL, (1.0, 2.0, 3.0)))(variables, batch)
    logits = [np.asarray(z) for z in quickly(MODEL.apply)(variables, batch.inputs)]
    expected = np.dot((1, 2, 3), cross_entropies(logits, np.asarray(batch.labels)))
    np.testing.assert_allclose(counts.loss / counts.examples, expected, rtol=1e-5)
