"""Masks that change while a network trains: optimisers that wrap optimisers, and what goes with.

A new method is a file of this package and a name here.
"""

from pruning.dynamic.gradual import gradual
from pruning.dynamic.rigl import rigl
from pruning.dynamic.set import set
from pruning.dynamic.static import static

__all__ = ["gradual", "rigl", "set", "static"]
