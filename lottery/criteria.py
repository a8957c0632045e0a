"""The public names of criteria, for users' own loops; they are defined in `pruning.criteria`."""

from pruning.criteria import CRITERIA, Criterion, Evidence, magnitude, random

__all__ = ["CRITERIA", "Criterion", "Evidence", "magnitude", "random"]
