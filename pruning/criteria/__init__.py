"""Criteria: what decides which weights go. `CRITERIA` lists them."""

from collections.abc import Callable

from pruning.criteria.weights import magnitude, random
from pruning.masks import Scores

CRITERIA: dict[str, Callable[..., Scores]] = {"magnitude": magnitude, "random": random}

__all__ = ["CRITERIA", "magnitude", "random"]
