"""The public names of masks, for users' own loops; they are defined in `pruning`.

Read `enforce` first: it is the one place that holds pruned weights at zero.
"""

from pruning.enforce import enforce
from pruning.masks import (
    EnforceState,
    Mask,
    apply,
    density,
    flatten,
    is_kernel,
    kept,
    layer_of,
    ones,
    replace,
    total,
)
from pruning.rates import stacked
from pruning.select import Rate, Scope, Scores, groups, prune, prune_to

__all__ = [
    "EnforceState",
    "Mask",
    "Rate",
    "Scope",
    "Scores",
    "apply",
    "density",
    "enforce",
    "flatten",
    "groups",
    "is_kernel",
    "kept",
    "layer_of",
    "ones",
    "prune",
    "prune_to",
    "replace",
    "stacked",
    "total",
]
