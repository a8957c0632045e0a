"""Over which axis N:M has its groups, in networks that do not have the axes of Flax."""

import types

import jax
import jax.numpy as jnp
import pytest

from groundwork.errors import UserError
from pruning.weights import masking

SHAPES = {"einsum": (8, 6), "transposed": (6, 8), "flax": (6, 4), "window": (3, 1, 4)}


def init(key, inputs):
    return {"params": {name: {"kernel": jnp.zeros(shape)} for name, shape in SHAPES.items()}}


def apply(variables, inputs):
    kernels = {name: layer["kernel"] for name, layer in variables["params"].items()}
    x = jnp.einsum("bi,oi->bo", inputs, kernels["einsum"])
    x = x @ kernels["transposed"].T @ kernels["flax"]
    return jax.lax.conv_general_dilated(
        x[..., None], kernels["window"], (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    )


MODEL = types.SimpleNamespace(init=init, apply=apply)
LEAVES = {
    f"{name}/kernel": jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()
}


def test_the_axis_of_inputs_is_read_or_flaxs_or_not_known():
    axes = {p: a % len(LEAVES[p].shape) for p, a in masking.input_axes(MODEL, (6,), LEAVES).items()}
    assert axes == {"einsum/kernel": 1, "flax/kernel": 0, "window/kernel": 1}


def test_a_pattern_that_fits_no_layer_is_refused_by_the_axes_of_the_network():
    masking.check_pattern(types.SimpleNamespace(pattern="1:3"), LEAVES, MODEL, (6,))
    with pytest.raises(
        UserError, match=r"prune\.pattern: 2:4 fits no layer; einsum/kernel: 4 does"
    ):
        # by Flax's axes, einsum/kernel has 8
        masking.check_pattern(types.SimpleNamespace(pattern="2:4"), LEAVES, MODEL, (6,))
