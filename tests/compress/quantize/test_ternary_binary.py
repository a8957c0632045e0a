"""Ternary and binary weights against hand calculations, the papers' equations in numpy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import quantize

KEY = jax.random.key(0)
WEIGHTS = np.float32([[-1, -0.5, -0.05, 0], [0.04, 0.06, 0.3, 0.9]])
TOWARD = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])


def _random(seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, (2, 4)).astype("f4")


class TestTernary:
    def test_trained_by_hand(self):
        signs, positive, negative = quantize.ternary(WEIGHTS)  # threshold 0.05 × 1
        np.testing.assert_array_equal(signs, [[-1, -1, 0, 0], [0, 1, 1, 1]])
        np.testing.assert_allclose([positive, negative], [0.42, 0.75], rtol=1e-6)
        dequantized = quantize.dequantize(quantize.Ternary(signs, jnp.float32(2), jnp.float32(3)))
        np.testing.assert_array_equal(dequantized, [[-3, -3, 0, 0], [0, 2, 2, 2]])
        signs, *_ = quantize.ternary(WEIGHTS, threshold=0.5)
        np.testing.assert_array_equal(signs, [[-1, 0, 0, 0], [0, 0, 0, 1]])

    def test_twn_by_hand(self):
        stored = quantize.ternary(WEIGHTS, "twn")  # mean |w| 0.35625, threshold 0.249375
        np.testing.assert_array_equal(stored.signs, [[-1, -1, 0, 0], [0, 0, 1, 1]])
        np.testing.assert_allclose([stored.positive, stored.negative], 2.7 / 4, rtol=1e-6)
        half = quantize.ternary(WEIGHTS, "twn", 1.0)  # 0.35625
        np.testing.assert_array_equal(half.signs, [[-1, -1, 0, 0], [0, 0, 0, 1]])

    @pytest.mark.parametrize("scales", ["trained", "twn"])
    def test_no_other_scales_err_less_for_these_signs(self, scales):
        weights = _random()
        stored = quantize.ternary(weights, scales)
        error = np.sum((quantize.dequantize(stored) - weights) ** 2)
        for by in (0.98, 1.02):
            positive, negative = stored.positive * by, stored.negative * by
            if scales == "twn":
                tried = [stored._replace(positive=positive, negative=negative)]
            else:
                tried = [stored._replace(positive=positive), stored._replace(negative=negative)]
            for other in tried:
                assert np.sum((quantize.dequantize(other) - weights) ** 2) > error

    def test_a_side_without_weights_has_scale_zero(self):
        stored = quantize.ternary(np.float32([0, 1, 2]))
        assert float(stored.negative) == 0
        zeros = quantize.ternary(np.zeros(3))
        np.testing.assert_array_equal(quantize.dequantize(zeros), np.zeros(3))

    def test_gradients_are_those_of_the_paper(self):
        """Equations 7 (with the sign of its side) and 8."""
        positive, negative = np.float32(2), np.float32(3)
        of = jax.jit(
            jax.grad(lambda *a: jnp.sum(TOWARD * quantize.fake_ternary(*a)), argnums=(0, 1, 2))
        )
        of_weights, of_positive, of_negative = of(WEIGHTS, positive, negative)
        up, down = WEIGHTS > 0.05, WEIGHTS < -0.05
        np.testing.assert_array_equal(of_weights, TOWARD * np.where(up, 2, np.where(down, 3, 1)))
        assert float(of_positive) == TOWARD[up].sum()
        assert float(of_negative) == -TOWARD[down].sum()

    def test_gradients_of_scales_are_those_of_finite_differences(self):
        weights = _random().astype("f8")

        def loss(positive, negative):
            dequantized = quantize.fake_ternary(weights, positive, negative)
            return jnp.sum(jnp.sin(TOWARD.astype("f8") * dequantized))

        with jax.enable_x64(True):
            at, step = (0.7, 0.4), 1e-6
            gradient = jax.grad(loss, (0, 1))(*at)
            slopes = [
                (loss(at[0] + step, at[1]) - loss(at[0] - step, at[1])) / (2 * step),
                (loss(at[0], at[1] + step) - loss(at[0], at[1] - step)) / (2 * step),
            ]
            np.testing.assert_allclose(gradient, slopes, rtol=1e-6)

    def test_the_value_trained_through_is_the_stored_one(self):
        weights = _random()
        stored = quantize.ternary(weights)
        dequantized = quantize.fake_ternary(weights, stored.positive, stored.negative)
        np.testing.assert_array_equal(dequantized, quantize.dequantize(stored))
        analytic = quantize.dequantize(quantize.ternary(weights, "twn"))
        np.testing.assert_array_equal(quantize.fake_ternary(weights), analytic)
        of_weights = jax.grad(lambda w: jnp.sum(TOWARD * quantize.fake_ternary(w)))(weights)
        np.testing.assert_array_equal(of_weights, TOWARD)


class TestBinary:
    def test_by_hand(self):
        stored = quantize.binary(WEIGHTS)
        np.testing.assert_array_equal(stored.signs, [[-1, -1, -1, 1], [1, 1, 1, 1]])  # 0 is up
        np.testing.assert_array_equal(quantize.dequantize(stored), stored.signs)
        assert float(quantize.binary(WEIGHTS, scaled=True).scale) == pytest.approx(0.35625)
        rows = quantize.binary(WEIGHTS, scaled=True, axis=0)
        np.testing.assert_allclose(rows.scale, [[0.3875], [0.325]], rtol=1e-6)
        np.testing.assert_allclose(
            quantize.dequantize(rows), np.asarray(stored.signs) * np.float32([[0.3875], [0.325]])
        )

    def test_drawn_signs_have_the_hard_sigmoid_as_chance(self):
        weights = np.tile(np.float32([-3, -1, -0.5, 0, 0.8, 1, 2]), (4000, 1))
        signs = np.asarray(quantize.binary(weights, KEY).signs, float)
        assert set(np.unique(signs)) == {-1, 1}
        np.testing.assert_allclose(signs.mean(0), [-1, -1, -0.5, 0, 0.8, 1, 1], atol=0.06)
        assert (signs[:, [0, 1]] == -1).all()
        assert (signs[:, [5, 6]] == 1).all()
        again, other = (quantize.binary(weights, jax.random.key(k)).signs for k in (0, 1))
        np.testing.assert_array_equal(signs, again)
        assert (signs != np.asarray(other)).any()

    @pytest.mark.parametrize("key", [None, KEY])
    def test_the_gradient_passes_within_one_ends_included(self, key):
        weights = np.float32([[-1.01, -1, -0.5, 0], [0.2, 1, 1.01, 7]])
        of = jax.jit(jax.grad(lambda w: jnp.sum(TOWARD * quantize.fake_binary(w, key))))
        np.testing.assert_array_equal(of(weights), [[0, 2, 3, 4], [5, 6, 0, 0]])
        np.testing.assert_array_equal(
            quantize.fake_binary(weights, key), quantize.binary(weights, key).signs
        )

    def test_the_scales_gradient_is_the_true_one(self):
        weights = 3 * _random()  # some outside [−1, 1]

        def loss(weights):
            return jnp.sum(TOWARD * quantize.fake_binary(weights, scaled=True, axis=1))

        signs, scale = np.sign(weights), np.abs(weights).mean(0)
        through = np.where(np.abs(weights) <= 1, TOWARD * scale, 0)
        expected = through + signs / 2 * np.sum(TOWARD * signs, 0)
        assert (np.abs(weights) > 1).any()
        np.testing.assert_allclose(jax.grad(loss)(weights), expected, rtol=1e-5)
        stored = quantize.binary(weights, scaled=True, axis=1)
        np.testing.assert_allclose(
            quantize.fake_binary(weights, scaled=True, axis=1), quantize.dequantize(stored)
        )

    def test_clip(self):
        np.testing.assert_array_equal(quantize.clip(np.float32([-3, 0.5, 2])), [-1, 0.5, 1])


def test_dtypes_shapes_and_vmap():
    weights = np.stack([_random(0), _random(1)])
    for run in (quantize.ternary, lambda w: quantize.binary(w, scaled=True)):
        mapped = jax.vmap(run)(weights)
        for r in (0, 1):
            alone = run(weights[r])
            np.testing.assert_array_equal(mapped.signs[r], alone.signs)
            np.testing.assert_allclose(mapped[1][r], alone[1], rtol=1e-6)
        assert mapped.signs.dtype == np.int8
        short = jax.eval_shape(run, jnp.ones((2, 3), jnp.bfloat16))
        assert short[1].dtype == np.float32
    dequantized = jax.eval_shape(quantize.fake_ternary, jnp.ones((2, 3), jnp.bfloat16))
    assert dequantized.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: quantize.ternary(np.ones(2), "ttq"), "unknown scales 'ttq' (known: trained, twn)"),
        (lambda: quantize.ternary(np.ones(2), threshold=1.5), "threshold 1.5 is outside [0, 1]"),
        (lambda: quantize.ternary(np.ones(2), "twn", -1), "threshold -1 is outside [0, ∞)"),
        (
            lambda: quantize.ternary(np.float32([1, np.inf])),
            "1 of 2 entries of the weights are not finite",
        ),
        (
            lambda: quantize.fake_ternary(np.ones(2), np.ones(())),
            "positive and negative scales are given together or not at all",
        ),
        (
            lambda: quantize.binary(np.ones((2, 3)), axis=2),
            "axis 2 is outside -2…1, the axes of the array",
        ),
        (lambda: quantize.binary(np.ones(0)), "the weights is empty: shape (0,)"),
    ],
)
def test_bad_input_is_refused_in_one_line(run, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run()
