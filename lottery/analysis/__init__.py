"""What tickets have in common: the path between two networks, their masks, their permutations.

Functions of one replicate over pytrees; they know of no run. Read `instability` first.
"""

from lottery.analysis.masks_compared import Compared, Overlap, by_layer, matrix, overlap
from lottery.analysis.matching import match, matcher
from lottery.analysis.path import Instability, between, instability, of_errors

__all__ = [
    "Compared",
    "Instability",
    "Overlap",
    "between",
    "by_layer",
    "instability",
    "match",
    "matcher",
    "matrix",
    "of_errors",
    "overlap",
]
