"""Ranks by energy, by evidence (`vbmf`), within a budget (`choose`); on the host, in float64."""

# L M sizes of a matrix, L ≤ M; K rank

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from groundwork.numerics import knapsack

GRID = 2000  # noise variances tried, evenly in the logarithm, before the best is refined


def energy(matrix: Any, share: float) -> int:
    """Returns the least rank K ≥ 1 whose singular values hold a share of the energy, Σₖ σₖ² / Σ σ².

    Args:
      matrix: [L, M]; or its singular values, [min(L, M)], in any order.
      share: in (0, 1]; 1 keeps all that float64 can tell from 0.

    Raises:
      ValueError: the share is outside (0, 1], the shape is another one, or entries are not finite.

    Example:
        >>> from lowrank import ranks
        >>> ranks.energy([3.0, 2.0, 1.0], 0.9)  # the energies are 9, 4 and 1: 13 of 14 are enough
        2
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is outside (0, 1]")
    sigma = _singular_values(matrix)
    held = np.cumsum(np.sort(sigma**2)[::-1])
    return 1 + int(np.searchsorted(held, share * held[-1]))


def vbmf(matrix: Any) -> int:
    """Returns the rank that empirical variational Bayesian matrix factorisation keeps.

    The model of the matrix is B Aᵀ + noise, with normal priors of unknown variance on every column
    of A and B, and noise of unknown variance; the posterior factorises into A and B. Given the
    variance σ² of the noise, the global minimum of the free energy is known in closed form, so only
    σ² has to be searched for. Component h is kept if γₕ² > M σ² x̲, where x̲ = (1 + τ)(1 + α/τ),
    α = L/M, and τ solves φ(τ) + φ(τ/α) = 0 with φ(z) = log(z + 1)/z − 1/2.

    Args:
      matrix: [L, M] in either orientation, such as an unfolding of a kernel.

    Returns:
      0 … min(L, M); 0 if there is only noise. A layer needs rank 1, which the caller sees to.

    Raises:
      ValueError: it is not a matrix, is empty, or has entries that are not finite.

    Source: Nakajima, Sugiyama, Babacan & Tomioka, JMLR 14 (2013): the global solution of
    empirical variational Bayes; Nakajima, Tomioka, Sugiyama & Babacan, JMLR 16 (2015): threshold,
    free energy of the noise's variance and its bounds in the form used here.

    Example:
        >>> from lowrank import ranks
        >>> signal = np.outer(np.ones(30), np.ones(40))  # of rank 1
        >>> noise = np.random.default_rng(0).normal(size=(30, 40))
        >>> ranks.vbmf(signal + 0.1 * noise), ranks.vbmf(noise)
        (1, 0)
    """
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2:
        raise ValueError(f"vbmf needs a matrix, not shape {values.shape}")
    short, long = sorted(values.shape)
    squares = np.sort(_singular_values(values) ** 2)[::-1] / long
    if not squares[0] > 0:
        return 0
    squares = squares / squares[0]
    threshold = _threshold(short / long)
    variance = _noise_variance(squares, short / long, threshold)
    return int(np.sum(squares > variance * threshold))


class Candidate(NamedTuple):
    """One way to treat a layer."""

    method: str
    rank: tuple[int, ...] | int
    cost: int  # what the budget counts: parameters, MACs, nanoseconds
    error: float  # relative


def choose(
    candidates: Mapping[str, Sequence[Candidate]],
    budget: int,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Candidate]:
    """Chooses one candidate for each layer, with the least Σ weight × error² within the budget.

    `groundwork.numerics.knapsack.choose` says when that is exact, and how near it is otherwise.

    Args:
      candidates: layer → its candidates; leaving it as it is, is one of them, with error 0.
      budget: the largest total cost.
      weights: layer → weight of its squared error, not below 0; 1 by default.

    Raises:
      ValueError: the budget is below the cost of the cheapest choice, a layer has no candidates, a
        cost is below 0, an error or weight is out of range, or a weight is of an unknown layer.

    Example:
        >>> from lowrank import ranks
        >>> whole, half = ranks.Candidate("none", 4, 100, 0.0), ranks.Candidate("svd", 2, 50, 0.1)
        >>> rough = ranks.Candidate("svd", 2, 50, 0.3)
        >>> chosen = ranks.choose({"fc1": [whole, half], "fc2": [whole, rough]}, budget=150)
        >>> {layer: candidate.method for layer, candidate in chosen.items()}  # fc1 loses less
        {'fc1': 'svd', 'fc2': 'none'}
    """
    weights = weights or {}
    if unknown := sorted(weights.keys() - candidates.keys()):
        raise ValueError(f"weights of {unknown}, which have no candidates")
    for layer, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight {weight} of layer {layer!r} is outside [0, ∞)")
    options = {
        layer: [
            knapsack.Option(cost, weights.get(layer, 1.0) * (error * error))
            for _, _, cost, error in row
        ]
        for layer, row in candidates.items()
    }
    chosen = knapsack.choose(options, budget)
    return {layer: candidates[layer][index] for layer, index in chosen.items()}


def _singular_values(matrix: Any) -> np.ndarray:
    values = np.asarray(matrix, np.float64)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"a matrix or its singular values are needed, not shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} entries are not finite")
    return values if values.ndim == 1 else np.linalg.svd(values, compute_uv=False)


def _threshold(alpha: float) -> float:
    """Returns x̲, which γ² / (M σ²) of a component must exceed for it to be kept."""

    def phi(z: float) -> float:
        return math.log1p(z) / z - 0.5

    low, high = 2.5 * alpha, 2.6  # φ(2.5) > 0 > φ(2.6), and φ falls
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if phi(middle) + phi(middle / alpha) > 0 else (low, middle)
    return (1 + low) * (1 + alpha / low)


def _noise_variance(squares: np.ndarray, alpha: float, threshold: float) -> float:
    """Returns σ² at the least free energy, in units of `squares` = γ² / M, which fall.

    The bounds are the paper's. Between them the free energy may have several minima. So a grid is
    tried, with the places where components drop out, then golden sections around its best point.
    """
    short = squares.size
    most = min(math.ceil(short / (1 + alpha)) - 1, short - 1)
    high = squares.mean()
    low = max(squares[most] / threshold, squares[most:].mean(), 1e-14 * high)
    if low >= high:
        return float(high)
    drops = squares[(squares > low * threshold) & (squares < high * threshold)] / threshold
    grid = np.unique(np.concatenate([np.geomspace(low, high, GRID), drops, [low, high]]))
    best = int(np.argmin([_free_energy(squares, at, alpha, threshold) for at in grid]))
    a, b = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = b - golden * (b - a), a + golden * (b - a)
        lower = _free_energy(squares, left, alpha, threshold)
        a, b = (a, right) if lower < _free_energy(squares, right, alpha, threshold) else (left, b)
    return float((a + b) / 2)


def _free_energy(squares: np.ndarray, variance: float, alpha: float, threshold: float) -> float:
    """Returns Ω at σ² = `variance`: twice the free energy over L M, without constants."""
    x = squares / variance
    rest = np.log(variance) * x.size + np.sum(x)  # ψ₀(x) = x − log x, without Σ log γ²
    kept = x[x > threshold]
    gap = kept - (1 + alpha)
    tau = (gap + np.sqrt(gap**2 - 4 * alpha)) / 2
    return float(rest + np.sum(np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau))
