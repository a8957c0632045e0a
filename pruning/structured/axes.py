"""What is known of an axis of an array: which unit each entry belongs to, and which are zero."""

from typing import Any

import numpy as np

ENTRY = np.dtype([("id", np.int64), ("zero", np.bool_)])
Axis = np.ndarray
"""[n] of `ENTRY`: the unit of each entry, and whether it is zero where its parameters are zero."""

Axes = list[Axis]


def axis_of(ids: np.ndarray, zero: np.ndarray | None = None) -> Axis:
    """Returns an axis of entries [n], none of them zero by default."""
    axis = np.zeros(len(ids), ENTRY)
    axis["id"] = ids
    if zero is not None:
        axis["zero"] = zero
    return axis


def parameter(ids: np.ndarray) -> Axis:
    """Returns an axis of a parameter, whose entries are zero where their unit is removed."""
    return axis_of(ids, np.ones(len(ids), bool))


def zeros(axis: Axis, zero: Any) -> Axis:
    """Returns an axis with other zeros."""
    other = axis.copy()
    other["zero"] = zero
    return other
