"""How well a share of a layer's weights predicts the rest. Read `predict` first.

The rows of a kernel [N, M] are places (pixels, or units of the layer below), its columns units. If
weights vary smoothly from place to place, a few rows predict the others: kernel ridge regression
from the revealed places to all, with a covariance of places that is known beforehand.

Source: Denil et al. 2013, arXiv:1306.0543. Departs: one random choice of places serves all units,
and weights are predicted after training, where the paper also trains the revealed ones alone.
"""

# N places, M units, A revealed places, B examples, H W image, C channels, R replicates, S shares

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.numerics import arrays

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RIDGES = tuple(10.0**power for power in range(-6, 3))  # times the covariance's mean variance


class Prediction(NamedTuple):
    """What the revealed rows say about the whole matrix."""

    matrix: jax.Array  # [N, M]; the revealed rows as they are
    revealed: jax.Array  # [N] bool
    ridge: jax.Array  # [], λ that was used
    hidden_error: jax.Array  # [], relative, of the hidden rows alone; 0 if there are none
    error: jax.Array  # [], relative, of the whole matrix


def predict(
    key: jax.Array,
    matrix: jax.Array,
    covariance: jax.Array,
    share: float,
    ridge: float | None = None,
) -> Prediction:
    """Predicts a matrix from some of its rows: W_hidden = K_hα (K_αα + λ I)⁻¹ W_α.

    It works under vmap (of keys, matrices, covariances).

    Args:
      key: draws which rows are revealed; all sets are equally likely.
      matrix: W, [N, M]: a Dense kernel, or a convolution's as [KH·KW·in, out].
      covariance: K, [N, N], symmetric, of places: `smooth` or `empirical`.
      share: of the N rows to reveal, in (0, 1]; `rows_revealed` is their number.
      ridge: λ, in units of K's mean diagonal entry. By default it is the one of `RIDGES` with the
        least leave-one-out error on the *revealed* rows, where each is predicted from the other
        revealed ones: nothing is learned from hidden rows.

    Returns:
      `Prediction`. A prediction of zeros has hidden_error 1 and error near √(1 − share).

    Raises:
      ValueError: it is not a matrix, entries are not finite, the covariance does not fit it or is
        not symmetric (where values are known), the share is outside (0, 1], or the ridge is not
        above 0.
    """
    matrix = arrays.floats(matrix, "matrix", 2)
    covariance = arrays.floats(covariance, "covariance", 2).astype(matrix.dtype)
    if covariance.shape != (len(matrix),) * 2:
        raise ValueError(f"a covariance {covariance.shape} does not fit a matrix {matrix.shape}")
    if not isinstance(covariance, jax.core.Tracer):
        known = np.asarray(covariance)
        if not np.allclose(known, known.T, atol=1e-5 * np.abs(known).max()):
            raise ValueError("the covariance is not symmetric")
    if ridge is not None and not ridge > 0:
        raise ValueError(f"ridge {ridge} is not above 0")
    tried = jnp.asarray(RIDGES if ridge is None else (ridge,), matrix.dtype)
    return _predict(key, matrix, covariance, tried, rows_revealed(len(matrix), share))


def rows_revealed(rows: int, share: float) -> int:
    """Returns how many of the rows a share is: rounded, at least one.

    Raises:
      ValueError: the share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is outside (0, 1]")
    return max(1, round(share * rows))


def smooth(height: int, width: int, channels: int = 1, length: float = 1.0) -> jax.Array:
    """Returns the squared exponential exp(−distance² / (2 length²)) between pixels.

    Channels do not covary.

    Args:
      height: of the image, or of a convolution's window.
      width: likewise.
      channels: the last and fastest axis of the rows.
      length: number of pixels over which weights are alike.

    Returns:
      [N, N] with N = height · width · channels, in the order of [H, W, C] flattened.

    Raises:
      ValueError: a size is below 1, or the length is not positive.
    """
    if min(height, width, channels) < 1 or not length > 0:
        raise ValueError(
            f"height={height}, width={width}, channels={channels}, length={length}: positive ones"
        )
    along = [
        jnp.exp(-jnp.square((jnp.arange(n)[:, None] - jnp.arange(n)[None]) / length) / 2)
        for n in (height, width)
    ]
    return jnp.kron(jnp.kron(*along), jnp.eye(channels))


def empirical(inputs: jax.Array) -> jax.Array:
    """Returns the covariance of what a layer is given, Σ (x − mean)(x − mean)ᵀ / B.

    Args:
      inputs: [B, N]: examples, activations of the layer below, or patches (`layers.rows`).

    Returns:
      [N, N].

    Raises:
      ValueError: there are not two axes, or entries are not finite.
    """
    return _empirical(arrays.floats(inputs, "inputs", 2))


def lowrank_errors(matrix: jax.Array, shares: Sequence[float]) -> np.ndarray:
    """Returns the errors of the best low-rank matrices with as many numbers as each share reveals.

    Their rank is ⌊numbers / (N + M)⌋, as N×K and K×M; the error is 1 where not even rank 1 fits.

    Args:
      matrix: [N, M].
      shares: in (0, 1], S of them.

    Returns:
      [S], relative.

    Raises:
      ValueError: it is not a matrix, entries are not finite, or a share is outside (0, 1].
    """
    matrix = arrays.floats(matrix, "matrix", 2)
    n, m = matrix.shape
    squares = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False) ** 2
    ranks = [rows_revealed(n, share) * m // (n + m) for share in shares]
    return np.sqrt([squares[rank:].sum() / (squares.sum() or 1) for rank in ranks])


class Curve(NamedTuple):
    """Predictions of a layer in R replicates at S shares, which `prediction_figure` draws."""

    shares: tuple[float, ...]  # S, of the rows that were revealed
    error: np.ndarray  # [S, R], relative, of the whole matrix
    hidden_error: np.ndarray  # [S, R], of the hidden rows alone
    lowrank_error: np.ndarray  # [S, R], of the best approximation with as many numbers
    accuracy: np.ndarray | None = None  # [S, R], of the network with the predicted matrix


def curve(
    keys: jax.Array,
    matrices: jax.Array,
    covariances: jax.Array,
    shares: Sequence[float] = SHARES,
    score: Callable[[jax.Array], Sequence[float]] | None = None,
) -> Curve:
    """Returns what `predict` gives at several shares, for all replicates at once.

    Args:
      keys: [R].
      matrices: [R, N, M].
      covariances: [R, N, N], or [N, N] for all replicates.
      shares: see `predict`; each of them compiles.
      score: predicted matrices [R, N, M] → accuracies [R].

    Raises:
      ValueError: as `predict`.
    """
    matrices = arrays.floats(matrices, "matrices", 3)
    covariances = jnp.broadcast_to(
        arrays.floats(covariances, "covariances"), (len(matrices), *covariances.shape[-2:])
    )
    errors, hidden, accuracies, taken = [], [], [], []
    for share in shares:
        predicted = jax.vmap(functools.partial(predict, share=share))(keys, matrices, covariances)
        errors.append(np.asarray(predicted.error))
        hidden.append(np.asarray(predicted.hidden_error))
        taken.append(rows_revealed(matrices.shape[1], share) / matrices.shape[1])
        if score is not None:
            accuracies.append(np.asarray(score(predicted.matrix)))
    best = [lowrank_errors(matrix, shares) for matrix in matrices]
    return Curve(
        shares=tuple(taken),
        error=np.stack(errors),
        hidden_error=np.stack(hidden),
        lowrank_error=np.stack(best, 1),
        accuracy=np.stack(accuracies) if score is not None else None,
    )


@arrays.jit
def _empirical(inputs: jax.Array) -> jax.Array:
    centred = inputs - jnp.mean(inputs, 0, keepdims=True)
    return centred.T @ centred / len(inputs)


@functools.partial(arrays.jit, static_argnames=("rows",))
def _predict(
    key: jax.Array, matrix: jax.Array, covariance: jax.Array, ridges: jax.Array, rows: int
) -> Prediction:
    chosen = jax.random.permutation(key, len(matrix))[:rows]  # [A]
    revealed = jnp.zeros(len(matrix), bool).at[chosen].set(True)
    known, cross = matrix[chosen], covariance[:, chosen]
    variance = jnp.trace(covariance) / len(matrix)
    unit = jnp.where(variance > 0, variance, 1)
    sigma, basis = jnp.linalg.eigh(cross[chosen] / unit)  # K_αα = basis σ basisᵀ
    sigma, turned = jnp.maximum(sigma, 0), basis.T @ known

    def left_out(ridge: jax.Array) -> jax.Array:
        """Returns the error when each revealed row is predicted from the others.

        The error of row i is (G⁻¹ W)_i / (G⁻¹)_ii with G = K_αα + λ I.
        """
        inverse = 1 / (sigma + ridge)  # the eigenvalues of G⁻¹
        diagonal = jnp.square(basis) @ inverse  # [A], of G⁻¹
        return arrays.norm((basis @ (inverse[:, None] * turned)) / diagonal[:, None])

    ridge = ridges[jnp.argmin(jax.vmap(left_out)(ridges))]
    guess = cross / unit @ (basis @ (turned / (sigma + ridge)[:, None]))
    predicted = jnp.where(revealed[:, None], matrix, guess)
    hidden = jnp.where(revealed[:, None], 0, matrix)
    size = arrays.norm(hidden)
    missed = arrays.norm(matrix - predicted)
    hidden_error = missed / jnp.where(size > 0, size, 1)
    error = arrays.relative_error(matrix, predicted)
    return Prediction(predicted, revealed, ridge, hidden_error, error)
