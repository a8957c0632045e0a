"""Criteria of gradients, against finite differences in NumPy's float64; batches change nothing."""

import jax
import numpy as np
import pytest

from pruning import masks
from pruning.criteria import CRITERIA, Evidence
from tests.pruning.criteria import networks as tiny

PARAMS, EXAMPLES = tiny.drawn()
AT = tiny.numbers(masks.flatten(PARAMS))


def gradient(examples=EXAMPLES, at=AT, temperature=1.0):
    return tiny.differences(lambda w: tiny.mean_loss(w, examples, temperature), at)


def part(first, last):
    return tuple(leaf[first:last] for leaf in EXAMPLES)


def score(name, **changed):
    return tiny.numbers(jax.jit(lambda: CRITERIA[name](tiny.evidence(**changed)))())


@pytest.mark.parametrize("size", [None, 4])
def test_snip_is_the_gradient_by_the_mask(size):
    by_mask = tiny.differences(lambda m: tiny.mean_loss(m * AT, EXAMPLES), np.ones_like(AT))
    np.testing.assert_allclose(score("snip", batch_size=size), abs(by_mask), rtol=1e-4, atol=1e-7)


def test_taylor_is_the_mean_of_squares_over_batches_or_examples():
    batches = [part(0, 4), part(4, 8), part(8, 10)]
    by_size = sum(len(b[1]) / 10 * np.square(gradient(b) * AT) for b in batches)
    np.testing.assert_allclose(score("taylor", batch_size=4), by_size, rtol=1e-4, atol=1e-9)
    each = np.mean([np.square(gradient(part(n, n + 1)) * AT) for n in range(10)], 0)
    np.testing.assert_allclose(score("taylor"), each, rtol=1e-4, atol=1e-9)
    assert not np.array_equal(np.argsort(each), np.argsort(abs(gradient() * AT)))


@pytest.mark.parametrize("size", [None, 4])
def test_grasp_is_the_weight_times_the_hessian_times_the_gradient(size):
    def soft(at):
        return gradient(at=at, temperature=200.0)

    hessian = tiny.differences(soft, AT, 1e-3)
    expected = AT * (hessian @ soft(AT))
    scores = score("grasp", batch_size=size)
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=2e-3 * abs(expected).max())


def test_grasp_keeps_the_weights_whose_removal_would_shrink_the_gradient_most():
    """To first order: scaling a weight down by ε changes |g|² by −2ε·w·(Hg)."""
    scores = score("grasp", apply=None, output_loss=None)  # of a loss alone, temperature 1

    def norm(scale):
        return np.sum(np.square(gradient(at=AT * scale)))

    shrunk = -tiny.differences(norm, np.ones_like(AT), 1e-3)
    np.testing.assert_allclose(-2 * scores, shrunk, rtol=1e-2, atol=1e-3 * abs(shrunk).max())


@pytest.mark.parametrize("size", [None, 4])
def test_obd_is_the_gauss_newton_diagonal_of_explicit_jacobians(size):
    split = tiny.IN * tiny.HIDDEN

    def outputs(at):
        params = {
            "one": {**PARAMS["one"], "kernel": at[:split].reshape(tiny.IN, tiny.HIDDEN)},
            "two": {"kernel": at[split:].reshape(tiny.HIDDEN, tiny.CLASSES)},
        }
        return tiny.logits(params, EXAMPLES[0])

    jacobian = tiny.differences(outputs, AT)  # [P, N, C]
    odds = np.exp(outputs(AT))
    p = odds / odds.sum(1, keepdims=True)
    curvature = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None]  # of softmax
    diagonal = np.einsum("pnc,ncd,pnd->p", jacobian, curvature, jacobian) / tiny.N
    expected = diagonal * AT**2 / 2
    np.testing.assert_allclose(score("obd", batch_size=size), expected, rtol=1e-4, atol=1e-7)


def test_gradients_in_batches_leave_integers_alone():
    seen = tiny.evidence(batch_size=4)
    params = {**seen.params, "steps": np.arange(3)}
    seen = Evidence(
        params=params, mask=seen.mask, loss=tiny.loss, examples=seen.examples, batch_size=4
    )
    assert jax.eval_shape(seen.gradients)["steps"].dtype == jax.dtypes.float0
    found = tiny.numbers(jax.jit(lambda: masks.flatten(seen.gradients()))())
    np.testing.assert_allclose(found, gradient(), rtol=1e-4, atol=1e-6)


def test_obd_scores_nothing_by_a_loss_without_curvature():
    seen = tiny.evidence(output_loss=lambda outputs, examples: abs(outputs).mean())
    scores = jax.jit(lambda: CRITERIA["obd"](seen))()
    assert all(np.isnan(leaf).all() for leaf in scores.values())


def test_obd_refuses_more_outputs_than_it_can_differentiate():
    def wide(params, examples):
        return tiny.apply(params, examples) @ np.ones((3, 2000), np.float32)

    with pytest.raises(ValueError, match="at most 1024 outputs of an example, not 2000"):
        CRITERIA["obd"](tiny.evidence(apply=wide))


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_says_in_one_line_what_it_lacks(name):
    for field in CRITERIA[name].needs:
        with pytest.raises(ValueError, match=f"the criterion .* needs {field}=, ") as refusal:
            CRITERIA[name](tiny.evidence(**{field: None}))
        assert "\n" not in str(refusal.value)


def test_examples_that_share_no_axis_are_refused():
    with pytest.raises(ValueError, match=r"examples must be arrays \[N, …\] that share N"):
        CRITERIA["taylor"](tiny.evidence(examples=(np.ones((3, 5)), np.ones(2, int))))
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        CRITERIA["snip"](tiny.evidence(batch_size=0))
