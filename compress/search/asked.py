"""Whether a network has what is asked for: budgets kept by every replicate, or a small loss."""

import numpy as np

from compress.search.history import Judged
from compress.search.spec import SearchSpec


def keeps(spec: SearchSpec, one: Judged, reference: float, sign: float = 1) -> bool:
    """Returns whether a network keeps the budgets, or loses no more than is allowed.

    Args:
      spec: of the search.
      one: the network.
      reference: the original's mean on validation.
      sign: of the metric: 1 if more of it is better, −1 otherwise.
    """
    if spec.budget.asked:
        return all(max(one.costs[name]) <= most for name, most in spec.budget.asked.items())
    return lost(one, reference, sign) <= spec.accuracy.loss + 1e-9  # sums of floats are not exact


def lost(one: Judged, reference: float, sign: float = 1) -> float:
    """Returns by how much a network is worse than the original, in the mean; see `keeps`."""
    return sign * (reference - float(np.mean(one.validation)))
