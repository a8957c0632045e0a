"""`lowrank.prediction` against numpy, and what can be known beforehand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowrank import prediction, prediction_figure

KEY = jax.random.key(0)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def _covariance(n, seed=3):
    factor = _random(n, n, seed=seed)
    return factor @ factor.T


def _regression(matrix, covariance, revealed, ridge):
    """W_hidden = K_hα (K_αα + λ I)⁻¹ W_α, in float64 and by a solve."""
    matrix, covariance = np.float64(matrix), np.float64(covariance)
    known = covariance[np.ix_(revealed, revealed)]
    scaled = ridge * np.trace(covariance) / len(matrix) * np.eye(len(known))
    predicted = covariance[:, revealed] @ np.linalg.solve(known + scaled, matrix[revealed])
    return np.where(revealed[:, None], matrix, predicted)


def _left_out(matrix, covariance, revealed, ridge):
    """The norm of what is missed, by leaving every revealed row out and predicting it."""
    missed = []
    for row in np.flatnonzero(revealed):
        others = revealed & (np.arange(len(matrix)) != row)
        missed.append(_regression(matrix, covariance, others, ridge)[row] - matrix[row])
    return np.linalg.norm(missed)


@pytest.mark.parametrize("ridge", [1e-2, 1.0])
@pytest.mark.parametrize("share", [0.3, 0.75])
def test_it_is_kernel_ridge_regression(share, ridge):
    matrix, covariance = _random(12, 5), _covariance(12)
    result = prediction.predict(KEY, matrix, covariance, share, ridge)
    revealed = np.asarray(result.revealed)
    assert revealed.sum() == round(share * 12)
    want = _regression(matrix, covariance, revealed, ridge)
    np.testing.assert_allclose(result.matrix, want, atol=1e-4)
    np.testing.assert_array_equal(result.matrix[revealed], matrix[revealed])
    np.testing.assert_allclose(result.ridge, ridge)
    missed = np.linalg.norm(want - matrix)
    np.testing.assert_allclose(result.error, missed / np.linalg.norm(matrix), rtol=1e-4)
    hidden = np.linalg.norm(matrix[~revealed])
    np.testing.assert_allclose(result.hidden_error, missed / hidden, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_ridge_predicts_revealed_rows_from_each_other_best(seed):
    smooth = np.asarray(prediction.smooth(4, 4))
    noise = 0.2 * seed * _random(16, 5, seed=seed)
    matrix = np.float32(np.linalg.cholesky(smooth + 1e-5 * np.eye(16)) @ _random(16, 5)) + noise
    result = prediction.predict(KEY, matrix, smooth, 0.6)
    revealed = np.asarray(result.revealed)
    left_out = [_left_out(matrix, smooth, revealed, ridge) for ridge in prediction.RIDGES]
    chosen = np.argmin(np.abs(np.array(prediction.RIDGES) - float(result.ridge)))
    assert left_out[chosen] <= min(left_out) * 1.001


def test_hidden_rows_are_not_looked_at():
    matrix, covariance = _random(12, 5), _covariance(12)
    result = prediction.predict(KEY, matrix, covariance, 0.4)
    other = np.where(np.asarray(result.revealed)[:, None], matrix, 7 * matrix + 1)
    again = prediction.predict(KEY, other, covariance, 0.4)
    np.testing.assert_array_equal(again.matrix, result.matrix)
    assert float(again.error) != float(result.error)


def test_all_of_the_weights_are_themselves():
    matrix = _random(12, 5)
    result = prediction.predict(KEY, matrix, _covariance(12), 1.0)
    np.testing.assert_array_equal(result.matrix, matrix)
    assert (float(result.error), float(result.hidden_error)) == (0, 0)


def test_smooth_weights_are_predicted_and_noise_is_not():
    covariance = prediction.smooth(12, 12, length=3.0)
    y, x = np.mgrid[:12, :12].reshape(2, -1, 1)
    gentle = np.sin(x / 4 + _random(1, 8)) * np.cos(y / 5 + _random(1, 8, seed=1))
    result = prediction.predict(KEY, gentle, covariance, 0.3)
    assert float(result.hidden_error) < 0.03
    noise = prediction.predict(KEY, _random(144, 8), covariance, 0.3)
    assert 0.9 < float(noise.hidden_error) < 1.15  # zeros would have 1
    np.testing.assert_allclose(noise.error, noise.hidden_error * np.sqrt(0.7), rtol=0.05)


def test_inputs_that_covary_tell_weights_that_follow_them():
    mixing = _random(3, 40)  # three causes behind forty inputs
    inputs = _random(500, 3, seed=1) @ mixing + 0.01 * _random(500, 40, seed=2)
    matrix = mixing.T @ _random(3, 6, seed=4)
    result = prediction.predict(KEY, matrix, prediction.empirical(inputs), 0.2)
    assert float(result.hidden_error) < 0.02
    np.testing.assert_allclose(
        prediction.empirical(inputs), np.cov(inputs.T, bias=True), rtol=1e-3, atol=1e-4
    )


def test_the_key_draws_the_rows():
    matrix, covariance = _random(30, 2), _covariance(30)
    first, again, other = (
        np.asarray(prediction.predict(jax.random.key(k), matrix, covariance, 0.3).revealed)
        for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.sum() == other.sum() == 9


def test_pixels_by_loops():
    covariance = prediction.smooth(2, 3, channels=2, length=1.5)
    for one in range(12):
        for two in range(12):
            (a, i, c), (b, j, d) = (np.unravel_index(at, (2, 3, 2)) for at in (one, two))
            want = (c == d) * np.exp(-((a - b) ** 2 + (i - j) ** 2) / (2 * 1.5**2))
            np.testing.assert_allclose(covariance[one, two], want, rtol=1e-5)


def test_counts_of_rows():
    counts = [prediction.rows_revealed(10, share) for share in (0.001, 0.25, 0.26, 1)]
    assert counts == [1, 2, 3, 10]


def test_the_low_rank_of_as_many_numbers():
    matrix, shares = _random(30, 10), (0.1, 0.14, 0.5, 1.0)
    errors = prediction.lowrank_errors(matrix, shares)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    ranks = (0, 1, 3, 7)  # 30, 40, 150, 300 numbers; 40 a rank
    want = [np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma) for rank in ranks]
    np.testing.assert_allclose(errors, want, rtol=1e-5)
    np.testing.assert_array_equal(prediction.lowrank_errors(np.zeros((3, 2)), (0.5,)), [0])


def test_nothing_covaries_and_nothing_is_predicted():
    for covariance in (np.zeros((12, 12)), np.eye(12)):
        result = prediction.predict(KEY, _random(12, 5), covariance, 0.5)
        assert np.isfinite(result.matrix).all()
        np.testing.assert_allclose(result.hidden_error, 1, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrix": np.zeros(4)}, "the matrix must have 2 axes, not shape (4,)"),
        ({"matrix": np.full((12, 5), np.nan)}, "60 of 60 entries of the matrix are not finite"),
        ({"covariance": np.eye(11)}, "a covariance (11, 11) does not fit a matrix (12, 5)"),
        ({"covariance": np.tri(12)}, "the covariance is not symmetric"),
        ({"share": 0}, "share 0 is outside (0, 1]"),
        ({"share": 1.5}, "share 1.5 is outside (0, 1]"),
        ({"share": float("nan")}, "share nan is outside (0, 1]"),
        ({"ridge": 0.0}, "ridge 0.0 is not above 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes, message):
    arguments = {"matrix": _random(12, 5), "covariance": np.eye(12), "share": 0.5, **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        prediction.predict(KEY, **arguments)


def test_pixels_that_are_none_are_refused():
    for options in ({"height": 0}, {"channels": 0}, {"length": 0.0}):
        with pytest.raises(ValueError, match="positive ones"):
            prediction.smooth(**{"height": 2, "width": 2, **options})


class TestCurve:
    def _curve(self, score=None):
        matrices, covariance = np.stack([_random(20, 6, seed=r) for r in range(2)]), _covariance(20)
        keys = jax.random.split(KEY, 2)
        curve = prediction.curve(keys, matrices, covariance, (0.07, 0.5), score)
        return curve, keys, matrices, covariance

    def test_replicates_are_predicted_each_by_itself(self):
        curve, keys, matrices, covariance = self._curve()
        assert curve.shares == (0.05, 0.5)  # as revealed: 1 and 10 of 20
        assert curve.accuracy is None
        for s, share in enumerate((0.07, 0.5)):
            for r in range(2):
                alone = prediction.predict(keys[r], matrices[r], covariance, share)
                np.testing.assert_allclose(curve.error[s, r], alone.error, rtol=1e-3)
                np.testing.assert_allclose(curve.hidden_error[s, r], alone.hidden_error, rtol=1e-3)
                low = prediction.lowrank_errors(matrices[r], (share,))[0]
                np.testing.assert_allclose(curve.lowrank_error[s, r], low)

    def test_the_figure(self, tmp_path):
        def score(predicted):
            assert predicted.shape == (2, 20, 6)
            return jnp.abs(predicted).mean((1, 2))

        plain, *_ = self._curve()
        scored, *_ = self._curve(score)
        assert scored.accuracy.shape == (2, 2)
        widths = []
        for number, curves in enumerate(({"pixels": plain}, {"pixels": plain, "inputs": scored})):
            path, caption = prediction_figure.draw(curves, tmp_path / "new" / f"{number}.png")
            header = path.read_bytes()[:24]
            assert header[:8] == b"\x89PNG\r\n\x1a\n"
            widths.append(int.from_bytes(header[16:20], "big"))
            assert "one standard deviation" in caption
        assert widths[1] > 1.5 * widths[0]  # a second panel, of accuracy
        with pytest.raises(ValueError, match="no curves"):
            prediction_figure.draw({}, tmp_path / "none.png")
