"""Do confidences mean what they say? Temperatures, and how far off an exit is.

All of it is numpy on the host. Source: Guo et al., arXiv:1706.04599.
"""

# N examples, K exits, C classes

import warnings
from typing import NamedTuple

import numpy as np

COLDEST, HOTTEST = 1 / 20, 20.0  # of the temperatures that are tried
UNFOUND = (
    f"the validation split tells no temperature from {COLDEST:g} to {HOTTEST:g}, as where all of "
    "it is right, or hardly any: they keep 1; more validation examples may tell"
)


class Fit(NamedTuple):
    """The temperatures of all exits."""

    temperatures: np.ndarray  # [K]; 1 where none was found
    found: np.ndarray  # [K] bool


def fit(logits: np.ndarray, labels: np.ndarray) -> Fit:
    """Returns the temperature of each exit, by which its logits should be divided.

    It minimises the mean cross-entropy of a validation split, which is convex in 1 / temperature;
    bisection finds the root of its slope. Where every example is right, the cross-entropy falls
    for ever as the temperature falls to 0, and all confidences would become 1; where answers are
    no better than chance, it falls as the temperature grows. Then the split tells no temperature,
    and the exit keeps 1, which leaves its confidences as the network has them; so it does where
    the minimum lies outside `COLDEST` … `HOTTEST`.
    Source: Guo et al., arXiv:1706.04599, Section 4.2. Departs: bounds, and 1 beyond them.

    Args:
      logits: [N, K, C], of examples that were never trained on.
      labels: [N] integers in [0, C).

    Raises:
      ValueError: shapes differ, a label is out of range, or logits are not finite.
    """
    logits, labels = _checked(logits, labels)
    logits -= logits.max(-1, keepdims=True)
    of_label = np.take_along_axis(logits, labels[:, None, None], -1)[..., 0]  # [N, K]

    def rises(scale: np.ndarray) -> np.ndarray:
        """Whether the cross-entropy rises with 1 / temperature there, [K]."""
        weights = np.exp(logits * scale[:, None])
        expected = (weights * logits).sum(-1) / weights.sum(-1)
        return (expected - of_label).mean(0) > 0

    low, high = (np.full(logits.shape[1], 1 / bound) for bound in (HOTTEST, COLDEST))
    found = ~rises(low) & rises(high)
    for _ in range(60):
        scale = np.sqrt(low * high)
        rising = rises(scale)
        low, high = np.where(rising, low, scale), np.where(rising, scale, high)
    return Fit(np.where(found, 1 / np.sqrt(low * high), 1.0), found)


def temperatures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the temperatures of `fit`, [K]; a warning names the exits that keep 1."""
    fitted = fit(logits, labels)
    if not fitted.found.all():
        kept = ", ".join(str(k) for k in np.flatnonzero(~fitted.found))
        warnings.warn(f"exits {kept}: {UNFOUND}", stacklevel=2)
    return fitted.temperatures


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.array(logits, np.float64), np.asarray(labels)
    if logits.ndim != 3 or not logits.size or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must be [N, exits, classes] and [N]"
        )
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.sum(~np.isfinite(logits))} of the logits are not finite")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(f"labels must be integers from 0 to {logits.shape[2] - 1}")
    return logits, labels


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
