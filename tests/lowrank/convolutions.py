"""Convolutions to hold the factorised ones against: `jax.lax`'s, on small images."""

import jax
import numpy as np

CASES = [
    ((1, 1), "SAME"),
    ((2, 2), "SAME"),
    ((1, 2), "VALID"),
    ((2, 1), ((2, 0), (1, 3))),
]


def images(channels):
    """[2, 9, 8, channels]."""
    return np.random.default_rng(7).normal(size=(2, 9, 8, channels)).astype("f4")


def conv(inputs, kernel, strides, padding, groups=1):
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def split(strides, padding):
    """Of a vertical and a horizontal convolution: strides and paddings of each."""
    paddings = (padding, padding)
    if not isinstance(padding, str):
        paddings = ((padding[0], (0, 0)), ((0, 0), padding[1]))
    return ((strides[0], 1), paddings[0]), ((1, strides[1]), paddings[1])
