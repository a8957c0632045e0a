"""Layers that all families share. Every convolution of every model is made by `conv`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures.cpu.convolution import conv_general_dilated

glorot = nn.initializers.glorot_normal()
"""Glorot & Bengio 2010: normal, variance 2 / (fan in + fan out), cut at two deviations."""

he = nn.initializers.he_normal()
"""He et al., arXiv:1502.01852: normal, variance 2 / fan in, cut at two deviations."""

# PyTorch's and fb.resnet.torch's: statistics keep 0.9 of what they were (PyTorch calls that
# momentum 0.1), 1e-5 is added to the variance.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

TOO_SMALL = "the image is too small for its pooling layers: take larger ones or pad it (data.pad)"


def conv(
    channels: int,
    size: int,
    *,
    name: str,
    kernel_init: nn.initializers.Initializer,
    dtype: DTypeLike,
    strides: int = 1,
    padding: str | int = "SAME",
    bias: bool = True,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    groups: int = 1,
) -> nn.Module:
    """A square convolution, [B, H, W, C] → [B, H', W', channels]: the one place that makes any.

    `padding` is Flax's, or pixels on every side (at stride 2 `SAME` would pad one side alone).
    `groups` of channels are convolved apart: 1, or C for a depthwise convolution.
    """
    return nn.Conv(
        channels,
        (size, size),
        strides=strides,
        padding=padding,
        use_bias=bias,
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        feature_group_count=groups,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def batch_norm(name: str, train: bool, dtype: DTypeLike) -> nn.Module:
    """BatchNorm over B, H, W and, in training, over all devices that share the batch.

    Scale 1 and offset 0 to begin with; statistics are float32 under every `dtype`. Departs from
    PyTorch: the running variance is of the batch as it is, not times n / (n − 1).
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        dtype=dtype,
        axis_name="data" if train else None,
        name=name,
    )


def as_images(inputs: jax.Array) -> jax.Array:
    """The inputs, if they are [B, H, W, C]; Flax itself takes [H, W, C] for one image.

    Raises:
      ValueError: they are not.
    """
    if inputs.ndim != 4:
        raise ValueError("images of [height, width, channels] are needed")
    return inputs


def max_pool(x: jax.Array) -> jax.Array:
    """2×2, stride 2, [B, H, W, C]; an odd last row or column is left out.

    As `flax.linen.max_pool`; its gradient too where nothing is NaN (all of it to the first of equal
    ones). XLA computes that one's gradient 15 times slower on the CPU.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = _larger(x[:, :, ::2], x[:, :, 1::2])
    return _larger(x[:, ::2], x[:, 1::2])


def global_average(x: jax.Array) -> jax.Array:
    """[B, H, W, C] → [B, C].

    Raises:
      ValueError: nothing is left of the image.
    """
    return jnp.mean(_some(x), (1, 2))


def flatten(x: jax.Array) -> jax.Array:
    """[B, H, W, C] → [B, H·W·C].

    Raises:
      ValueError: nothing is left of the image.
    """
    return _some(x).reshape((x.shape[0], -1))


def _some(x: jax.Array) -> jax.Array:
    """[B, H, W, C], of which something is left after pooling."""
    if not x.shape[1] * x.shape[2]:
        raise ValueError(TOO_SMALL)
    return x


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger of each pair, the first of equal ones; NaN where either is."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
