"""A small tree of prunable leaves, filled from flat lists."""

import math

import numpy as np
from hypothesis import strategies as st

# sorted paths; `a` has two prunable leaves, `scale` is a bare scalar
SHAPES = {
    "a/bias": (4,),
    "a/kernel": (2, 4),
    "net/conv/kernel": (2, 2, 1, 3),
    "scale": (),
}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
KEEPS = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


def unflatten(values, dtype):
    """Path → array, from as many values as the leaves have entries."""
    values, result = np.asarray(values, dtype), {}
    for path, shape in SHAPES.items():
        size = math.prod(shape)
        result[path], values = values[:size].reshape(shape), values[size:]
    return result


def same(mask, expected):
    """Two masks are equal, path by path."""
    assert mask.keys() == expected.keys()
    for path in expected:
        assert np.asarray(mask[path]).dtype == bool
        np.testing.assert_array_equal(mask[path], expected[path], err_msg=path)
