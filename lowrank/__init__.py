"""Low-rank decompositions of matrices, kernels and networks; and the choice of ranks."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from lowrank.choose import ranks
    from lowrank.decompositions import cp, spatial, stability, svd, tucker
    from lowrank.factorization import factorize, layers
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "lowrank.choose": ("ranks",),
            "lowrank.decompositions": ("cp", "spatial", "stability", "svd", "tucker"),
            "lowrank.factorization": ("factorize", "layers"),
        },
    )

__all__ = ["cp", "factorize", "layers", "ranks", "spatial", "stability", "svd", "tucker"]
