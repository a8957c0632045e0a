"""Layers that all families share. `conv` makes every convolution of every model."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures.cpu.convolution import LAYOUT, conv_general_dilated

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
    size: int | tuple[int, int],
    *,
    name: str,
    kernel_init: nn.initializers.Initializer,
    dtype: DTypeLike,
    strides: int = 1,
    padding: str | int | tuple[tuple[int, int], tuple[int, int]] = "SAME",
    bias: bool = True,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Module:
    """Returns a convolution, [B, H, W, C] → [B, H', W', channels].

    Every convolution of every model is made here.

    Args:
      channels: of the outputs.
      size: of the window, height and width.
      name: of the layer.
      kernel_init: of the kernel.
      dtype: the type in which it computes.
      strides: of the window, both ways.
      padding: one of Flax's, or a number of pixels on every side, or those of (top, bottom) and
        (left, right). At stride 2, `SAME` would pad one side only.
      bias: whether a number is added to each channel.
      bias_init: of the biases.
      groups: of channels, which are convolved separately; C for a depthwise convolution.
      dilation: pixels from one tap of the window to the next (atrous convolution).
    """
    return nn.Conv(
        channels,
        (size, size) if isinstance(size, int) else size,
        strides=strides,
        padding=padding,
        use_bias=bias,
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init,
        feature_group_count=groups,
        kernel_dilation=dilation,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def convolve(
    x: jax.Array, kernel: jax.Array, *, dtype: DTypeLike, padding: int = 0, groups: int = 1
) -> jax.Array:
    """Returns a convolution with a kernel that was made of other arrays, with stride 1.

    Args:
      x: images [B, H, W, C].
      kernel: [h, w, C / groups, C'], of any float type.
      dtype: the type in which it computes.
      padding: pixels of zeros on every side.
      groups: of channels, which are convolved separately.

    Returns:
      [B, H', W', C'] of that type.
    """
    return conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def batch_norm(
    name: str,
    train: bool,
    dtype: DTypeLike,
    momentum: float = BATCH_NORM_MOMENTUM,
    epsilon: float = BATCH_NORM_EPSILON,
) -> nn.Module:
    """Returns BatchNorm over B, H, W and, in training, over all devices that share the batch.

    Those are the axis `data` of a mesh, where the network is trained on one; a loop of one's own
    may have none. It begins with scale 1 and offset 0; statistics are float32 under every `dtype`,
    keep `momentum` of their value at each step, and `epsilon` is added to the variance. Departs
    from PyTorch: the running variance is the batch's own, not multiplied by n / (n − 1).
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        axis_name="data" if train and _is_mapped("data") else None,
        name=name,
    )


def _is_mapped(axis: str) -> bool:
    try:
        jax.lax.axis_size(axis)
    except NameError:  # JAX's, for an axis that nothing around maps over
        return False
    return True


def as_images(inputs: jax.Array) -> jax.Array:
    """Returns the inputs if they are [B, H, W, C]; Flax itself would take [H, W, C] as one image.

    Raises:
      ValueError: they have another number of dimensions.
    """
    if inputs.ndim != 4:
        raise ValueError("images of [height, width, channels] are needed")
    return inputs


def max_pool(x: jax.Array, size: int = 2, strides: int = 2, padding: int = 0) -> jax.Array:
    """Returns the maximum of each window, [B, H, W, C] → [B, H', W', C].

    Values equal `flax.linen.max_pool`'s, and so do gradients where nothing is NaN (the first of
    equal entries gets all of it); XLA computes the gradient of Flax's pooling 15 times slower on
    the CPU.

    Args:
      x: images.
      size: of the square windows.
      strides: from a window to the next, both ways. Where the last window would not fit, its
        pixels are left out: an odd last row or column at the default.
      padding: so many pixels of −∞ on every side.
    """
    for axis in (2, 1):  # columns first: of equal entries the first in reading order stays it
        parts = _windows(x, axis, size, strides, padding, -jnp.inf)
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            parts = [_larger(*pair) for pair in pairs] + (parts[-1:] if len(parts) % 2 else [])
        x = parts[0]
    return x


def average_pool(x: jax.Array, size: int = 2, strides: int = 2, padding: int = 0) -> jax.Array:
    """Returns the mean of each window, as `max_pool`; the zeros of the padding count in it."""
    for axis in (2, 1):
        x = functools.reduce(jnp.add, _windows(x, axis, size, strides, padding, 0))
    return x / size**2


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


def _windows(
    x: jax.Array, axis: int, size: int, strides: int, padding: int, fill: float
) -> list[jax.Array]:
    """Returns `size` arrays: what each place of a window sees that moves along one axis."""
    if padding:
        edges = [(padding, padding) if own == axis else (0, 0) for own in range(x.ndim)]
        x = jnp.pad(x, edges, constant_values=fill)
    count = max(0, (x.shape[axis] - size) // strides + 1)
    span = max(0, (count - 1) * strides + 1)
    before = (slice(None),) * axis
    return [x[(*before, slice(place, place + span, strides))] for place in range(size)]


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """Returns the larger of each pair, the first if they are equal, NaN if either is."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
