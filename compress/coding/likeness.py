"""What frequencies, rows, columns and neighbours promise for a code. An encoder chooses by it."""

# R rows, C columns

import math

import numpy as np

from compress.coding.places import INERTIA, Likeness

_LAGS = 4096  # the largest lag that is looked for
_SEEN = 1 << 20  # entries in which it is looked for
_SIGNIFICANT = 6.0  # standard deviations by which rows at a lag must be alike


def of(signs: np.ndarray) -> Likeness:
    """Returns how the entries of a matrix of signs [R, C], 0 for zeros, depend on each other."""
    kept = signs != 0
    return Likeness(lag(signs), _inertia(kept.sum(axis=1)), _inertia(kept.sum(axis=0)))


def _inertia(counts: np.ndarray) -> int:
    """Returns log₂ of the shape a of a gamma distribution from whose draws counts are Poisson's.

    Their variance is then mean + mean² / a.
    """
    if not counts.size:
        return 0
    mean, variance = float(counts.mean()), float(counts.var())
    shape = mean**2 / max(variance - mean, 1e-9)
    return min(max(round(math.log2(max(shape, 1.0))), 0), INERTIA - 1)


def expected(signs: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """Returns the bytes of places and of symbols by their frequencies alone."""
    share = np.count_nonzero(signs) / max(signs.size, 1)
    counts = np.unique(matrix[signs != 0], return_counts=True)[1]
    of_symbols = float(counts @ np.log2(counts.sum() / counts)) / 8
    if share in (0, 1):
        return 0.0, of_symbols
    entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    return signs.size * entropy / 8, of_symbols


def uneven(kept: np.ndarray) -> float:
    """Returns about how many bytes it saves to know the share of ones in each row [R, C].

    The divergence of counts from their mean is half of their chi-squared statistic, in nats; what
    chance adds to it has the mean of the degrees of freedom.
    """
    mean = kept.mean() * kept.shape[1]
    variance = mean * (1 - kept.mean())
    squared = float(((kept.sum(axis=1) - mean) ** 2).sum() / variance) if variance else 0.0
    return max(squared - len(kept), 0.0) / (2 * math.log(2) * 8)


def lag(signs: np.ndarray) -> int:
    """Returns the distance at which rows are most alike, 2 at least; 0 if no two of them are.

    The likeness is the sum of products of signs. Of unrelated rows it has a variance of the number
    of products that are not zero.
    """
    rows = len(signs)
    if min(signs.shape) < 2:
        return 0
    part = signs[:, :: -(-signs.size // _SEEN)].astype(np.float64)
    most = min(rows, _LAGS)
    if most < 4:
        return 0
    length = 1 << (2 * rows - 1).bit_length()

    def alike(values: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(values, length, axis=0)) ** 2
        return np.rint(np.fft.irfft(power.sum(axis=1), length)[:most])

    products, count = alike(part), alike(np.abs(part))
    score = products / np.sqrt(np.maximum(count, 1))
    best = 2 + int(np.argmax(np.rint(1e6 * score[2:])))
    return best if score[best] >= _SIGNIFICANT else 0
