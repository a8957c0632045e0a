"""A network with some of its layers factorised, by a plan. Read `factorize` first."""

from lowrank.factorization.network import (
    decompose,
    factorize,
    override,
    overrides,
    reconstruct,
    with_kernel,
)
from lowrank.factorization.plan import Plan, checked, parameters, planned, shapes
from lowrank.factorization.reach import collect, decomposable, rows

__all__ = [
    "Plan",
    "checked",
    "collect",
    "decomposable",
    "decompose",
    "factorize",
    "override",
    "overrides",
    "parameters",
    "planned",
    "reconstruct",
    "rows",
    "shapes",
    "with_kernel",
]
