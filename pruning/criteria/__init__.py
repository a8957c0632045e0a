"""Criteria score weights; those with the lowest scores go. Each is a function of `Evidence`.

A new criterion is a function in a file of this package and a line in `CRITERIA`.
"""

from pruning.criteria.evidence import Criterion, Evidence
from pruning.criteria.weights import MAGNITUDE, RANDOM, magnitude, random

CRITERIA: dict[str, Criterion] = {"magnitude": MAGNITUDE, "random": RANDOM}

__all__ = ["CRITERIA", "Criterion", "Evidence", "magnitude", "random"]
