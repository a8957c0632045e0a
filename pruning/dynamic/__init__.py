"""Sparsity that arises while a network trains: optimisers that wrap optimisers, and what goes with.

A new method is a file of this package and a name here.
"""

from pruning.dynamic.gradual import gradual
from pruning.dynamic.proximal import nonzero, proximal_l1, proximal_l2
from pruning.dynamic.rigl import rigl
from pruning.dynamic.set import set
from pruning.dynamic.static import static
from pruning.dynamic.straight_through import straight_through

__all__ = [
    "gradual",
    "nonzero",
    "proximal_l1",
    "proximal_l2",
    "rigl",
    "set",
    "static",
    "straight_through",
]
