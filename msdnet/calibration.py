"""Do confidences mean what they say? Temperatures, and how far off an exit is.

All of it is numpy on the host. Source: Guo et al., arXiv:1706.04599.
"""

# N examples, K exits, C classes

from typing import NamedTuple

import numpy as np


def temperatures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the temperature of each exit, [K], by which its logits should be divided.

    It minimises the mean cross-entropy of a validation split, logits [N, K, C] with labels [N].
    The cross-entropy is convex in 1 / temperature; bisection finds the root of its slope in
    [1/100, 100].
    Source: Guo et al., arXiv:1706.04599, Section 4.2.
    """
    logits = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    of_label = np.take_along_axis(logits, labels[:, None, None], -1)[..., 0]  # [N, K]
    low, high = np.full(logits.shape[1], 0.01), np.full(logits.shape[1], 100.0)
    for _ in range(60):
        scale = np.sqrt(low * high)
        weights = np.exp(logits * scale[:, None])
        expected = (weights * logits).sum(-1) / weights.sum(-1)
        rising = (expected - of_label).mean(0) > 0
        low, high = np.where(rising, low, scale), np.where(rising, scale, high)
    return 1 / np.sqrt(low * high)


class Reliability(NamedTuple):
    """Confidence and accuracy in bins of equal width in confidence."""

    confidence: np.ndarray  # [bins], mean; NaN where a bin is empty
    accuracy: np.ndarray  # [bins]; NaN where a bin is empty
    examples: np.ndarray  # [bins] int
    error: float  # expected calibration error: the bins' gaps, weighted by their examples


def reliability(confidences: np.ndarray, correct: np.ndarray, bins: int = 15) -> Reliability:
    """Returns how often one exit is right at each confidence: confidences [N], correct [N] bool.

    Source: Guo et al., arXiv:1706.04599, equation 3.
    """
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    examples = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights, bins) for weights in (confidences, correct)]
    with np.errstate(invalid="ignore"):
        mean, accuracy = (total / examples for total in sums)
    error = float(np.abs(sums[0] - sums[1]).sum() / len(confidences))
    return Reliability(mean, accuracy, examples, error)
