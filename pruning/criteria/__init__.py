"""Criteria: what decides which weights go. Each is a function of `Evidence`; `CRITERIA` lists them.

A new one is a function in a file of this room, and a line in `CRITERIA`.
"""

from pruning.criteria.evidence import Criterion, Evidence
from pruning.criteria.weights import MAGNITUDE, RANDOM, magnitude, random

CRITERIA: dict[str, Criterion] = {"magnitude": MAGNITUDE, "random": RANDOM}

__all__ = ["CRITERIA", "Criterion", "Evidence", "magnitude", "random"]
