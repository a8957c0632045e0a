"""A network with some of its layers factorised, by a plan. Read `factorize` first."""

from lowrank.factorization.network import (
    Plan,
    checked,
    collect,
    decompose,
    factorize,
    override,
    overrides,
    parameters,
    planned,
    reconstruct,
    rows,
    with_kernel,
)

__all__ = [
    "Plan",
    "checked",
    "collect",
    "decompose",
    "factorize",
    "override",
    "overrides",
    "parameters",
    "planned",
    "reconstruct",
    "rows",
    "with_kernel",
]
