"""The public names of criteria, for loops of your own: `pruning.criteria` has them."""

from pruning.criteria import CRITERIA, magnitude, random

__all__ = ["CRITERIA", "magnitude", "random"]
