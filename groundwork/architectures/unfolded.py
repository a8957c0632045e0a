"""Convolutions whose scratch memory is known beforehand: im2col and MEC, by products of matrices.

Both make a matrix of windows, whose bytes `im2col_bytes` and `mec_bytes` say, and multiply it by
the kernel, one image and one group of channels at a time. im2col copies each window whole. MEC,
the memory-efficient convolution, copies the columns of windows only, so that windows that overlap
in height share what they have in common: where strides are 1, that takes about KH times less.

Source: Cho & Brand, arXiv:1706.06873, Algorithm 2. Departs: the paper's matrices are those of a
whole batch. XLA adds copies of its own: the padded image, and the windows of one row of pixels. On
CPUs with oneDNN, `cpu/unfold.h` computes the same without these.
"""

# N batch, H W image, C channels, KH KW window, O channels out, G groups

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.architectures.cpu import convolution
from groundwork.architectures.cpu.geometry import Geometry

Pads = str | Sequence[tuple[int, int]]


def im2col(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Pads = "SAME",
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Returns a convolution by one product for each image and group of channels.

    Args:
      images: [N, H, W, C].
      kernel: [KH, KW, C / groups, O].
      strides: of the window, in rows and columns.
      padding: "SAME", "SAME_LOWER", "VALID", or ((top, bottom), (left, right)).
      dilation: of the kernel, in rows and columns.
      groups: of channels; C for depthwise convolutions.

    Returns:
      [N, OH, OW, O], of the images' type. It works under jit, vmap and grad.

    Raises:
      ValueError or TypeError: as `jax.lax.conv_general_dilated`.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)  # rows 0 1 2, 3 4 5, 6 7 8
        >>> sums = unfolded.im2col(images, jnp.ones((2, 2, 1, 1)), padding="VALID")
        >>> sums[0, :, :, 0].tolist()  # 0 + 1 + 3 + 4, …
        [[8.0, 12.0], [20.0, 24.0]]
    """
    geometry = convolution.geometry(images, kernel, strides, padding, dilation, groups)
    return by_im2col(geometry, images, kernel)


def mec(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Pads = "SAME",
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Returns a convolution by one product for each row of pixels; see `im2col`.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)  # rows 0 1 2, 3 4 5, 6 7 8
        >>> sums = unfolded.mec(images, jnp.ones((3, 3, 1, 1)), strides=(2, 2))
        >>> sums[0, :, :, 0].tolist()  # at each corner, 0 + 1 + 3 + 4, …
        [[8.0, 12.0], [20.0, 24.0]]
    """
    geometry = convolution.geometry(images, kernel, strides, padding, dilation, groups)
    return by_mec(geometry, images, kernel)


def im2col_bytes(geometry: Geometry, itemsize: int = 4) -> int:
    """Returns the bytes of im2col's matrix of one image: OH · OW · KH · KW · C.

    Of several groups, C counts those of one group, but in a depthwise convolution, where all groups
    are taken together. It is 0 where the image itself is the matrix.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> from groundwork.architectures.cpu import convolution
        >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> geometry = convolution.geometry(images, kernel, strides=(1, 1), padding="SAME")
        >>> unfolded.im2col_bytes(geometry)  # 4 · 4 windows of 3 · 3 numbers of 4 bytes
        576
    """
    _, height, width, _ = geometry.output
    down, across, *_ = geometry.kernel
    size = height * width * down * across * channels_at_once(geometry)
    return 0 if is_view(geometry) else size * itemsize


def mec_bytes(geometry: Geometry, itemsize: int = 4) -> int:
    """Returns the bytes of MEC's matrix of one image: OW · rows · KW · C.

    `rows` are those that windows reach, padding included: (OH − 1) · stride + (KH − 1) · dilation +
    1. C counts as in `im2col_bytes`. Where strides are larger than KH, im2col needs less.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> from groundwork.architectures.cpu import convolution
        >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> geometry = convolution.geometry(images, kernel, strides=(1, 1), padding="SAME")
        >>> unfolded.mec_bytes(geometry)  # 4 columns of 6 rows and 3 numbers of 4 bytes
        288
    """
    size = geometry.output[2] * reach(geometry) * geometry.kernel[1] * channels_at_once(geometry)
    return 0 if is_view(geometry) else size * itemsize


def channels_at_once(geometry: Geometry) -> int:
    """Returns how many channels the matrix of windows has at a time."""
    channels = geometry.input[3]
    return channels if is_depthwise(geometry) else channels // geometry.groups


def is_depthwise(geometry: Geometry) -> bool:
    """Has each channel a window, and an output, of its own?"""
    return 1 < geometry.groups == geometry.input[3] == geometry.output[3]


def is_view(geometry: Geometry) -> bool:
    """Is it a product of each pixel with a matrix?"""
    plain = geometry.strides == (1, 1) and geometry.groups == 1
    return geometry.kernel[:2] == (1, 1) and plain and not any(map(any, geometry.padding))


def reach(geometry: Geometry) -> int:
    """Returns how many rows of an image, padding included, all windows together reach."""
    down = (geometry.output[1] - 1) * geometry.strides[0]
    return down + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1


def by_im2col(geometry: Geometry, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the outputs [N, OH, OW, O] of a convolution, by im2col.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> from groundwork.architectures.cpu import convolution
        >>> images, kernel = jnp.arange(4.0).reshape(1, 1, 4, 1), jnp.ones((1, 2, 1, 1))
        >>> geometry = convolution.geometry(images, kernel, strides=(1, 1), padding="VALID")
        >>> unfolded.by_im2col(geometry, images, kernel).ravel().tolist()  # 0 + 1, 1 + 2, 2 + 3
        [1.0, 3.0, 5.0]
    """
    _, height, width, _ = geometry.output
    (stride, _), (dilation, _) = geometry.strides, geometry.dilation
    down, across, *_ = geometry.kernel

    def one(image: jax.Array, kernel: jax.Array) -> jax.Array:
        padded = _padded(geometry, image)
        matrix = jnp.zeros((height, width, down * across, image.shape[2]), image.dtype)
        for tap in range(down * across):
            y, x = divmod(tap, across)
            pixels = _columns(geometry, padded, x)[y * dilation :: stride][:height]
            matrix = matrix.at[:, :, tap].set(pixels)
        rows = matrix.reshape(height * width, -1)
        return _product(geometry, rows, kernel).reshape(height, width, -1)

    return _one_by_one(geometry, one, images, kernel)


def by_mec(geometry: Geometry, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the outputs [N, OH, OW, O] of a convolution, by MEC.

    Example:
        >>> from groundwork.architectures import unfolded
        >>> from groundwork.architectures.cpu import convolution
        >>> images, kernel = jnp.arange(4.0).reshape(1, 4, 1, 1), jnp.ones((2, 1, 1, 1))
        >>> geometry = convolution.geometry(images, kernel, strides=(1, 1), padding="VALID")
        >>> unfolded.by_mec(geometry, images, kernel).ravel().tolist()  # 0 + 1, 1 + 2, 2 + 3
        [1.0, 3.0, 5.0]
    """
    _, height, width, _ = geometry.output
    (stride, _), (dilation, _) = geometry.strides, geometry.dilation
    down, across, *_ = geometry.kernel
    rows = reach(geometry)

    def one(image: jax.Array, kernel: jax.Array) -> jax.Array:
        padded = _padded(geometry, image)
        matrix = jnp.zeros((width, rows, across, image.shape[2]), image.dtype)
        for x in range(across):
            pixels = _columns(geometry, padded, x)[:rows]
            matrix = matrix.at[:, :, x].set(pixels.transpose(1, 0, 2))

        def row(y: jax.Array, output: jax.Array) -> jax.Array:
            part = lax.dynamic_slice_in_dim(matrix, y * stride, (down - 1) * dilation + 1, 1)
            made = _product(geometry, part[:, ::dilation].reshape(width, -1), kernel)
            return lax.dynamic_update_index_in_dim(output, made, y, 0)

        output = jnp.zeros((height, width, kernel.shape[-1]), image.dtype)
        return lax.fori_loop(0, height, row, output)

    return _one_by_one(geometry, one, images, kernel)


def _one_by_one(
    geometry: Geometry,
    one: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    kernel: jax.Array,
) -> jax.Array:
    """Returns what `one` makes of each image [H, W, C'] and kernel [KH, KW, C / G, O']."""
    if not all(geometry.sizes):
        return jnp.zeros(geometry.output, images.dtype)
    if is_view(geometry):
        rows = images.reshape(-1, images.shape[3])
        return _product(geometry, rows, kernel).reshape(geometry.output)
    groups = 1 if is_depthwise(geometry) else geometry.groups
    channels, outputs = images.shape[3] // groups, kernel.shape[3] // groups

    def next_one(turn: jax.Array | int, output: jax.Array) -> jax.Array:
        n, group = turn // groups, turn % groups
        image = lax.dynamic_index_in_dim(images, n, 0, keepdims=False)
        image = lax.dynamic_slice_in_dim(image, group * channels, channels, 2)
        own = lax.dynamic_slice_in_dim(kernel, group * outputs, outputs, 3)
        made = one(image, own)[None]
        return lax.dynamic_update_slice(output, made, (n, 0, 0, group * outputs))

    if images.shape[0] * groups == 1:
        return one(images[0], kernel)[None]
    output = jnp.zeros(geometry.output, images.dtype)
    return lax.fori_loop(0, images.shape[0] * groups, next_one, output)


def _padded(geometry: Geometry, image: jax.Array) -> jax.Array:
    pads = [(*sides, 0) for sides in (*geometry.padding, (0, 0))]
    return lax.pad(image, jnp.zeros((), image.dtype), pads)


def _columns(geometry: Geometry, padded: jax.Array, x: int) -> jax.Array:
    """Returns the pixels that one column of the kernel meets, [rows, OW, C]."""
    return padded[:, x * geometry.dilation[1] :: geometry.strides[1]][:, : geometry.output[2]]


def _product(geometry: Geometry, rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns windows [P, KH · KW · C'] times a kernel, [P, O']."""
    if is_depthwise(geometry):
        taps = kernel.reshape(1, -1, kernel.shape[3])
        return (rows.reshape(len(rows), *taps.shape[1:]) * taps).sum(1, dtype=rows.dtype)
    return jnp.matmul(rows, kernel.reshape(-1, kernel.shape[3]), precision=geometry.precision)
