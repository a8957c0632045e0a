"""Quantisation: weights, activations and gradients of few bits. Pure functions.

A weight is *stored* in one of four forms (`Clusters`, `Uniform`, `Ternary`, `Binary`), and
`materialize` turns a tree of them into parameters inside jit. The `fake_` functions serve training
with weights or activations that are quantised in the forward pass.
"""

from compress.quantize.activations import calibrate
from compress.quantize.allocation import allocate
from compress.quantize.gradients import quantize_gradient, quantized_backward, round_stochastically
from compress.quantize.grids import Grid, Uniform, fake_quantize, grid, uniform
from compress.quantize.k_means import Clusters, fake_clusters, kmeans
from compress.quantize.rate_distortion import rate_distortion
from compress.quantize.stored import Stored, dequantize, learn, learnable, materialize
from compress.quantize.straight_through_estimator import straight_through
from compress.quantize.ternary_binary import (
    Binary,
    Ternary,
    binary,
    clip,
    fake_binary,
    fake_ternary,
    ternary,
)

__all__ = [
    "Binary",
    "Clusters",
    "Grid",
    "Stored",
    "Ternary",
    "Uniform",
    "allocate",
    "binary",
    "calibrate",
    "clip",
    "dequantize",
    "fake_binary",
    "fake_clusters",
    "fake_quantize",
    "fake_ternary",
    "grid",
    "kmeans",
    "learn",
    "learnable",
    "materialize",
    "quantize_gradient",
    "quantized_backward",
    "rate_distortion",
    "round_stochastically",
    "straight_through",
    "ternary",
    "uniform",
]
