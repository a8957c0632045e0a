"""Low-rank decompositions of matrices, kernels and networks; and the choice of ranks."""

from lowrank.choose import ranks
from lowrank.decompositions import cp, spatial, stability, svd, tucker
from lowrank.factorization import factorize, layers

__all__ = ["cp", "factorize", "layers", "ranks", "spatial", "stability", "svd", "tucker"]
