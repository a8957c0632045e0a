"""A KH×KW convolution as KH×1 and then 1×KW, in closed form."""

# KH KW window, K rank

from typing import NamedTuple

import jax

from groundwork.numerics import arrays
from lowrank.decompositions import svd


class Spatial(NamedTuple):
    """Two convolutions in turn, HWIO."""

    vertical: jax.Array  # [KH, 1, in, K]
    horizontal: jax.Array  # [1, KW, K, out]
    error: jax.Array  # [], relative


def decompose(kernel: jax.Array, rank: int) -> Spatial:
    """Returns the best vertical and horizontal convolution that have K channels between them.

    Scheme 2 is a factorisation of the matrix [KH·in, KW·out], so its SVD gives the global
    minimum, where the paper iterates. The vertical one takes the strides and paddings of the
    height, the horizontal one those of the width. It works under vmap.

    Args:
      kernel: [KH, KW, in, out].
      rank: K, 1 … min(KH·in, KW·out).

    Returns:
      `Spatial`, and the relative Frobenius error of the kernel.

    Raises:
      ValueError: there are not four axes, entries are not finite, or the rank is outside its range.

    Source: Jaderberg et al., arXiv:1405.3866, Section 2.1, scheme 2.

    Example:
        >>> from lowrank import spatial
        >>> kernel = jnp.outer(jnp.array([1.0, 2.0, 1.0]), jnp.array([-1.0, 0.0, 1.0]))  # Sobel's
        >>> vertical, horizontal, error = spatial.decompose(kernel[:, :, None, None], rank=1)
        >>> vertical.shape, horizontal.shape, bool(error < 1e-5)
        ((3, 1, 1, 1), (1, 3, 1, 1), True)
    """
    kernel = arrays.floats(kernel, "kernel", 4)
    height, width, channels, outputs = kernel.shape
    matrix = kernel.transpose(0, 2, 1, 3).reshape(height * channels, width * outputs)
    left, right, error = svd.decompose(matrix, rank)
    vertical = left.reshape(height, 1, channels, -1)
    horizontal = right.reshape(-1, width, outputs).transpose(1, 0, 2)[None]
    return Spatial(vertical, horizontal, error)


def reconstruct(vertical: jax.Array, horizontal: jax.Array) -> jax.Array:
    """Returns the kernel [KH, KW, in, out] that the two make up.

    Example:
        >>> from lowrank import spatial
        >>> vertical = jnp.array([1.0, 2.0, 1.0]).reshape(3, 1, 1, 1)
        >>> horizontal = jnp.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
        >>> spatial.reconstruct(vertical, horizontal)[:, :, 0, 0].tolist()  # Sobel's filter
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
    """
    return jax.numpy.einsum("hik,wko->hwio", vertical[:, 0], horizontal[0])
