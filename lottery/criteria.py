"""The public names of criteria, for loops of your own; `pruning.criteria` has them."""

from pruning.criteria import CRITERIA, Criterion, Evidence, magnitude, random

__all__ = ["CRITERIA", "Criterion", "Evidence", "magnitude", "random"]
