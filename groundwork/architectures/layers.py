"""Layers that all families share. `conv` makes every convolution of every model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures.cpu.convolution import conv_general_dilated

glorot = nn.initializers.glorot_normal()
"""Glorot & Bengio 2010: normal, variance 2 / (fan in + fan out), cut at two deviations."""


he = nn.initializers.he_normal()
"""He et al., arXiv:1502.01852: normal, variance 2 / fan in, cut at two deviations."""

# As in PyTorch and fb.resnet.torch: statistics keep 0.9 of their value at each step (PyTorch calls
# that momentum 0.1), and 1e-5 is added to the variance.
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
    """Returns a square convolution, [B, H, W, C] → [B, H', W', channels].

    Every convolution of every model is made here. `padding` is one of Flax's, or a number of
    pixels on every side (at stride 2, `SAME` would pad one side only). `groups` of channels are
    convolved separately: 1, or C for a depthwise convolution.
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
    """Returns BatchNorm over B, H, W and, in training, over all devices that share the batch.

    It begins with scale 1 and offset 0; statistics are float32 under every `dtype`. Departs from
    PyTorch: the running variance is the batch's own, not multiplied by n / (n − 1).
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
    """Returns the inputs if they are [B, H, W, C]; Flax itself would take [H, W, C] as one image.

    Raises:
      ValueError: they have another number of dimensions.
    """
    if inputs.ndim != 4:
        raise ValueError("images of [height, width, channels] are needed")
    return inputs


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum of each 2×2 window, stride 2, of [B, H, W, C].

    An odd last row or column is left out. Values equal `flax.linen.max_pool`'s, and so do gradients
    where nothing is NaN (the first of equal entries gets all of it); XLA computes the gradient of
    Flax's pooling 15 times slower on the CPU.
    """
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = larger(x[:, :, ::2], x[:, :, 1::2])
    return larger(x[:, ::2], x[:, 1::2])


def global_average(x: jax.Array) -> jax.Array:
    """Returns the mean over pixels, [B, H, W, C] → [B, C].

    Raises:
      ValueError: nothing is left of the image.
    """
    return jnp.mean(_not_empty(x), (1, 2))


def flatten(x: jax.Array) -> jax.Array:
    """Returns one vector per image, [B, H, W, C] → [B, H·W·C].

    Raises:
      ValueError: nothing is left of the image.
    """
    return _not_empty(x).reshape((x.shape[0], -1))


def _not_empty(x: jax.Array) -> jax.Array:
    """Returns [B, H, W, C] as it is; raises ValueError if pooling has left no pixel."""
    if not x.shape[1] * x.shape[2]:
        raise ValueError(TOO_SMALL)
    return x


def larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """Returns the larger of each pair, the first if they are equal, NaN if either is."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
