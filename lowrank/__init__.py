"""Low-rank decompositions of matrices, kernels and networks; and the choice of ranks."""

from lowrank import cp, layers, ranks, spatial, stability, svd, tucker
from lowrank.factorization import factorize

__all__ = ["cp", "factorize", "layers", "ranks", "spatial", "stability", "svd", "tucker"]
