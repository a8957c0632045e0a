"""A network with some of its layers factorised, by a plan. Read `factorize` first."""

from lowrank.factorization.network import (
    decompose,
    factorize,
    override,
    overrides,
    reconstruct,
    with_kernel,
)
from lowrank.factorization.plan import Layers, Plan, assumed, found, kernel, shapes
from lowrank.factorization.reach import collect, decomposable, planned, rows

__all__ = [
    "Layers",
    "Plan",
    "assumed",
    "collect",
    "decomposable",
    "decompose",
    "factorize",
    "found",
    "kernel",
    "override",
    "overrides",
    "planned",
    "reconstruct",
    "rows",
    "shapes",
    "with_kernel",
]
