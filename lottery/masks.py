"""The public names of masks, for loops of your own: `pruning.masks` has them.

Read `enforce` first: it is the one place where pruned weights are held at zero.
"""

from pruning.masks import (
    EnforceState,
    Mask,
    Rate,
    Scope,
    Scores,
    apply,
    density,
    enforce,
    flatten,
    groups,
    is_kernel,
    kept,
    layer_of,
    ones,
    prune,
    prune_to,
    total,
)

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
    "total",
]
