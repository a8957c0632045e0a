"""Functions of one value as tables of 256 codes, and softmax by a table of exponentials.

The tables are made with floats when a graph is read; what runs is a look-up, as in LiteRT.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from deploy.graphs.graph import Grid
from deploy.integers import fixed

FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh,
        "exp": np.exp,
        "log": np.log,
        "sqrt": np.sqrt,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "erf": np.vectorize(math.erf, otypes=[float]),
        "neg": np.negative,
        "abs": np.abs,
        "sign": np.sign,
    }
)
FRACTION = 30
"""Bits of the exponentials in softmax; their sum over up to 2³² entries fits an int64."""


def looked_up(operation: str, codes: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """Returns the codes of a function of `FUNCTIONS`: the nearest points, NaN at the lowest."""
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = FUNCTIONS[operation](
            (np.arange(fixed.LOWEST, fixed.HIGHEST + 1) - old.zero) * float(np.float32(old.scale))
        )
    points = np.rint(exact / float(np.float32(new.scale))) + new.zero
    table = fixed.saturated(np.nan_to_num(points, nan=fixed.LOWEST), new)
    return table[codes.astype(np.int64) - fixed.LOWEST]


def softmax(codes: np.ndarray, old: Grid, new: Grid, axis: int) -> np.ndarray:
    """Returns the codes of a softmax: exponentials from a table, their sum, one division each."""
    steps = np.arange(256) * float(np.float32(old.scale))
    table = np.rint(np.exp(-steps) * 2.0**FRACTION).astype(np.int64)
    below = codes.max(axis, keepdims=True).astype(np.int64) - codes
    parts = table[below]
    shares = (parts << FRACTION) // parts.sum(axis, keepdims=True)
    to_grid = fixed.factor(2.0**-FRACTION / float(np.float32(new.scale)))
    return fixed.saturated(fixed.scaled(shares, to_grid) + new.zero, new)
