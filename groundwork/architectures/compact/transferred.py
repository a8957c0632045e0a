"""Transferred filters: layers that make several filters of each one that they have.

Parameters are plain arrays named `kernel`, smaller than the kernel that is convolved; that one is
made of them at each call, so masks, quantisation and files take them as they take any array, and
training sums the gradients of all the copies. What needs the kernel as it is multiplied (low rank,
products in 8 bits) cannot take them and lists them. Read `crelu`, `Cyclic` and `Doubly`.
"""

# H W image, k window, C channels of the inputs, G elements of a group, F fields, N meta filters

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers

ROTATIONS = 4  # by 0°, 90°, 180° and 270°


def crelu(x: jax.Array) -> jax.Array:
    """Returns ReLU of x and of −x, [..., C] → [..., 2C]; the C of −x come last.

    A convolution needs half as many filters for the same number of maps after it, and so half the
    parameters and multiply-adds. It equals ReLU after filters of which each has its negative.

    Source: Shang et al., arXiv:1603.05201, Definition 2.1.
    """
    return nn.relu(jnp.concatenate([x, -x], axis=-1))


def order(flips: bool) -> int:
    """Returns G: 4 rotations, or 8 with flips."""
    return 2 * ROTATIONS if flips else ROTATIONS


def moved(kernel: jax.Array, element: int) -> jax.Array:
    """Returns [k, k, …] as an element of the group moves it.

    Element 4m + r flips the columns m times and then rotates by r · 90°, counterclockwise.
    """
    flip, turns = divmod(element, ROTATIONS)
    return jnp.rot90(jnp.flip(kernel, 1) if flip else kernel, turns)


def seen_from(element: int, size: int) -> list[int]:
    """Returns g⁻¹s for the element g and every s of a group of `size` elements."""
    flip, turns = divmod(element, ROTATIONS)
    found = []
    for other in range(size):
        mirrored, angle = divmod(other, ROTATIONS)
        by = turns - angle if flip else angle - turns
        found.append(ROTATIONS * (mirrored ^ flip) + by % ROTATIONS)
    return found


def group_kernel(kernel: jax.Array, flips: bool, lifting: bool) -> jax.Array:
    """Returns the kernel of all the filters that a group makes of some.

    Args:
      kernel: [k, k, C, F] if it lifts images to fields, else [k, k, G · C, F].
      flips: whether the group has flips.
      lifting: whether the inputs are images, whose channels the group leaves in their places.

    Returns:
      [k, k, C, G · F] or [k, k, G · C, G · F]. Its outputs, and the fields that it takes, have
      channels in the order of the group's elements, the F or C fields within each.
    """
    size, (high, wide, inputs, fields) = order(flips), kernel.shape
    copies = []
    for element in range(size):
        copy = moved(kernel, element)
        if not lifting:
            apart = copy.reshape(high, wide, size, inputs // size, fields)
            places = jnp.asarray(seen_from(element, size))
            copy = jnp.take(apart, places, axis=2).reshape(kernel.shape)
        copies.append(copy)
    return jnp.concatenate(copies, axis=-1)


class Cyclic(nn.Module):
    """A convolution equivariant under rotations by 90° and flips, to G · fields channels.

    [B, H, W, C] → [B, H, W, G · fields] with k · k · C · fields parameters, a G-th of an ordinary
    convolution's, and as many multiply-adds, k · k · C · G · fields · H · W. G is 4, or 8 with
    flips. If the group's element h moves the inputs, it moves every output map, and the map of g
    becomes that of hg. The window is odd and zeros pad the images to their own size; strides would
    end equivariance, and so does pooling of odd sides.

    Source: Cohen & Welling, arXiv:1602.07576, equations 10 and 11 (p4, p4m); Dieleman et al.,
    arXiv:1602.02660, whose cyclic slicing, rolling and pooling compute the same for rotations.

    Attributes:
      fields: maps for each element of the group.
      lifting: whether the inputs are images; otherwise they are another such layer's outputs.
      flips: whether the group has flips.
      dtype: the type in which it computes.
      size: k.
    """

    fields: int
    lifting: bool
    flips: bool
    dtype: DTypeLike
    size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.fields)
        kernel = group_kernel(self.param("kernel", layers.he, shape), self.flips, self.lifting)
        return layers.convolve(x, kernel, dtype=self.dtype, padding=self.size // 2)


def translated(meta: jax.Array, size: int) -> jax.Array:
    """Returns all crops of `size` × `size` out of meta filters.

    Args:
      meta: [m, m, C, N].
      size: k, at most m.

    Returns:
      [k, k, C, (m − k + 1)² · N]: crops row by row, the N filters within each.
    """
    places = range(meta.shape[0] - size + 1)
    crops = [meta[row : row + size, column : column + size] for row in places for column in places]
    return jnp.concatenate(crops, axis=-1)


class Doubly(nn.Module):
    """A doubly convolutional layer, [B, H, W, C] → [B, H, W, (D / pool)² · filters].

    D = meta − size + 1. Each meta filter gives D² filters, its translated crops of size × size,
    and the maps of neighbouring crops are pooled to their largest, pool × pool of them to one. It
    has meta² · C · filters parameters and size² · C · D² · filters · H · W multiply-adds; without
    pooling it has (meta / (size · D))² of an ordinary convolution's parameters and as many
    multiply-adds. Zeros pad the images to their own size.

    Source: Zhai et al., arXiv:1610.09716, Section 3 (`pool` of 1: "concat", of D: "maxout").

    Attributes:
      filters: meta filters.
      dtype: the type in which it computes.
      meta: height and width of a meta filter.
      pool: a divisor of D.
      size: k, odd.
    """

    filters: int
    dtype: DTypeLike
    meta: int = 4
    pool: int = 1
    size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gain = 2 * (self.meta / self.size) ** 2  # He's variance for the filters that are convolved
        init = nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
        meta = self.param("kernel", init, (self.meta, self.meta, x.shape[-1], self.filters))
        kernel = translated(meta, self.size)
        maps = layers.convolve(x, kernel, dtype=self.dtype, padding=self.size // 2)
        if self.pool == 1:
            return maps
        side = (self.meta - self.size + 1) // self.pool
        split = (*maps.shape[:3], side, self.pool, side, self.pool, self.filters)
        return jnp.max(maps.reshape(split), (4, 6)).reshape(*maps.shape[:3], -1)
