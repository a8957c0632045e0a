import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from groundwork.train.step import Batch
from msdnet import objective
from tests.msdnet import small

RNG = np.random.default_rng(0)
VALID = np.array([True] * 5 + [False])


@pytest.fixture(scope="module")
def batch():
    images = RNG.normal(size=(6, 8, 8, 1)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(RNG.integers(0, 10, 6)), jnp.asarray(VALID))


@pytest.fixture(scope="module")
def variables(batch):
    return jax.jit(small.model().init)(jax.random.key(0), batch.inputs)


@pytest.fixture(scope="module")
def logits(batch, variables):
    """In training: K × [B, C], by the model's own call (its axis is that of one device)."""

    def all_exits(variables, images):
        return small.model().apply(variables, images, True, mutable=["batch_stats"])[0]

    return [np.asarray(z, np.float64) for z in over_one_device(all_exits)(variables, batch.inputs)]


def over_one_device(function):
    """BatchNorm in training averages over the axis `data`."""

    def mapped(*args):
        return jax.vmap(lambda _: function(*args), axis_name="data")(jnp.zeros(1))

    return jax.jit(lambda *args: jax.tree.map(lambda leaf: leaf[0], mapped(*args)))


def loss_of(weights, variables, batch, **options):
    loss_fn = objective.make_loss(small.model(), weights, **options)
    return over_one_device(lambda v: loss_fn(jax.random.key(0), v, batch))(variables)


def cross_entropies(logits, labels):
    own = [-log_softmax(z, -1)[np.arange(6), labels] for z in logits]
    return np.array([ce[VALID].mean() for ce in own])


def test_the_loss_is_the_weighted_sum_over_exits(batch, variables, logits):
    weights = (0.5, 0.0, 2.0)
    loss, (_, counts) = loss_of(weights, variables, batch)
    expected = np.dot(weights, cross_entropies(logits, np.asarray(batch.labels)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(counts.loss / 5, expected, rtol=1e-5)
    right = (logits[-1].argmax(-1) == np.asarray(batch.labels))[VALID].sum()
    assert (counts.correct, counts.examples) == (right, 5)


def test_right_ones_are_the_last_exits():
    labels = jnp.arange(6)
    right, wrong = 5 * jnp.eye(6), 5 * jnp.eye(6)[::-1]
    given = Batch(jnp.zeros(6), labels, jnp.asarray(VALID))
    assert objective.count_exits([wrong, right], (1.0, 1.0), given).correct == 5
    assert objective.count_exits([right, wrong], (1.0, 1.0), given).correct == 0


def test_distillation_adds_the_divergence_from_the_last_exit(batch, variables, logits):
    plain, _ = loss_of((1.0,) * 3, variables, batch)
    loss, (_, counts) = loss_of((1.0,) * 3, variables, batch, distillation=0.7, temperature=2.0)
    *earlier, last = (log_softmax(z / 2.0, -1) for z in logits)
    divergences = [(np.exp(last) * (last - own)).sum(-1)[VALID].mean() for own in earlier]
    np.testing.assert_allclose(loss - plain, 0.7 * 4 * sum(divergences), rtol=1e-4)
    np.testing.assert_allclose(counts.loss / 5, plain, rtol=1e-6)  # rows say the exits' own loss


def test_distillation_does_not_pull_on_the_last_exit(batch, variables):
    def gradient(distillation):
        def loss(params):
            loss_fn = objective.make_loss(small.model(), (0.0, 0.0, 1.0), distillation=distillation)
            return loss_fn(jax.random.key(0), {**variables, "params": params}, batch)[0]

        return over_one_device(jax.grad(loss))(variables["params"])

    plain, helped = gradient(0.0), gradient(1.0)
    jax.tree.map(np.testing.assert_array_equal, plain["classifier_2"], helped["classifier_2"])
    assert np.abs(helped["classifier_0"]["linear"]["kernel"]).max() > 0
    assert not np.abs(plain["classifier_0"]["linear"]["kernel"]).max()


def test_equilibrium_changes_gradients_alone_and_by_the_papers_factors(batch, variables):
    weights = (1.0, 1.0, 1.0)
    same = [loss_of(weights, variables, batch, equilibrium=on)[0] for on in (False, True)]
    assert same[0] == same[1]

    def gradient(weights, equilibrium):
        def loss(params):
            loss_fn = objective.make_loss(small.model(), weights, equilibrium=equilibrium)
            return loss_fn(jax.random.key(0), {**variables, "params": params}, batch)[0]

        return over_one_device(jax.grad(loss))(variables["params"])

    # the coarsest features of the first block feel exit 0's loss times 1/3
    found = [gradient((1.0, 0.0, 0.0), on) for on in (False, True)]
    own = [g["backbone_0"]["layer0_1_own"]["conv"]["conv"]["kernel"] for g in found]
    np.testing.assert_allclose(own[1], own[0] / 3, rtol=1e-4, atol=1e-7)
    # its own classifier feels all of it
    heads = [g["classifier_0"] for g in found]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), *heads)


def test_evaluation_counts_the_same_way(batch, variables):
    evaluate = jax.jit(objective.make_evaluate(small.model(), (1.0, 2.0, 3.0)))
    counts = evaluate(variables, batch)
    found = [np.asarray(z) for z in jax.jit(small.model().apply)(variables, batch.inputs)]
    expected = np.dot((1, 2, 3), cross_entropies(found, np.asarray(batch.labels)))
    np.testing.assert_allclose(counts.loss / counts.examples, expected, rtol=1e-5)
