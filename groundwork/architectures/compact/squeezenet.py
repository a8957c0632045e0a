"""SqueezeNet: fire modules, which squeeze channels before they expand them again."""

# H W image height, width; C channels

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import caffe_xavier, scaled

FIRES = {  # number of a fire module → channels that it squeezes to, and of each of its expansions
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
BYPASSES = ("none", "simple", "complex")
DROPOUT = 0.5  # the share of channels' values that are zeroed in training, before the last layer


class Fire(nn.Module):
    """A 1×1 convolution that squeezes, then 1×1 and 3×3 ones side by side; ReLU after each.

    [B, H, W, C] → [B, H, W, 2·expand], the 1×1 expansion's channels first. With S = `squeeze` and
    E = `expand` it has (C + 1)·S + (S + 1)·E + (9·S + 1)·E parameters and H·W·(C·S + 10·S·E)
    multiply-adds. Biases are zero.

    Attributes:
      squeeze: channels of the first convolution.
      expand: channels of each of the two others.
      dtype: the type in which layers compute.
      kernel_init: of all kernels; by default Caffe's Xavier, as published.

    Source: Iandola et al., arXiv:1602.07360, Section 3.2 (s1x1 is `squeeze`, e1x1 = e3x3 `expand`).
    """

    squeeze: int
    expand: int
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = caffe_xavier

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        conv = functools.partial(layers.conv, kernel_init=self.kernel_init, dtype=self.dtype)
        x = nn.relu(conv(self.squeeze, 1, name="squeeze")(inputs))
        one = nn.relu(conv(self.expand, 1, name="expand1x1")(x))
        three = nn.relu(conv(self.expand, 3, name="expand3x3")(x))
        return jnp.concatenate([one, three], -1)


class SqueezeNet(nn.Module):
    """A convolution, eight fire modules, dropout, a 1×1 convolution to classes, global average.

    ReLU follows each convolution, the last one included. 3×3 max-pooling with stride 2, whose last
    window may reach beyond the image, follows the places in `pooled`. Use `SqueezeNet10`,
    `SqueezeNet11` or one of their forms for 32×32 images.

    Kernels are Caffe's Xavier (uniform, variance 1 / fan in), those of the last convolution normal
    with deviation 0.01; biases are zero. Half of the last convolution's inputs are dropped in
    training.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels but the classes.
      dtype: the type in which layers compute.
      bypass: `none`; `simple` adds the inputs of fire modules 3, 5, 7 and 9 to their outputs;
        `complex` also adds 1×1 convolutions of the inputs of 2, 4, 6 and 8 to theirs.
      stem: channels, window and strides of the first convolution.
      padding: of the first convolution.
      pooled: places that pooling follows: 1 is the first convolution, 2 to 9 are fire modules.

    Source: Iandola et al., arXiv:1602.07360, Table 1 and Section 6 (bypasses), and the authors'
    Caffe files, which initialisers and the padding of the first convolution (none) are taken from.
    Departs: the paper's Table 1 has 111×111 outputs of the first convolution for 224×224 images,
    which are those of the 227×227 crops of the Caffe files; for 224×224 they are 109×109 here, as
    in torchvision. The paper's 7.7 MB for the complex bypass are more than its layers add up to
    (6.4 MB).
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("bypass",)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    bypass: str = "none"
    stem: tuple[int, int, int] = (96, 7, 2)
    padding: str = "VALID"
    pooled: tuple[int, ...] = (1, 4, 8)

    def __post_init__(self) -> None:
        if self.bypass not in BYPASSES:
            raise ValueError(f"bypass={self.bypass!r} must be one of {', '.join(BYPASSES)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, dtype=self.dtype)
        x = trunk(self, layers.as_images(inputs))
        x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        last = conv(self.classes, 1, name="output", kernel_init=nn.initializers.normal(0.01))
        return layers.global_average(nn.relu(last(x)))


def trunk(
    network: SqueezeNet,
    x: jax.Array,
    kernel_init: nn.initializers.Initializer = caffe_xavier,
) -> jax.Array:
    """Returns what the first convolution and the fire modules of a network make of images.

    It is called in the network's `__call__`.
    """
    dtype = network.dtype
    conv = functools.partial(layers.conv, kernel_init=kernel_init, dtype=dtype)
    channels, size, strides = network.stem
    channels, padding = scaled(channels, network.width), network.padding
    x = nn.relu(conv(channels, size, strides=strides, padding=padding, name="conv1")(x))
    x = overlapping_max_pool(x) if 1 in network.pooled else x
    for number, (squeeze, expand) in FIRES.items():
        squeeze, expand = scaled(squeeze, network.width), scaled(expand, network.width)
        made = Fire(squeeze, expand, dtype, kernel_init, name=f"fire{number}")(x)
        if number % 2 and network.bypass != "none":
            made = made + x
        elif network.bypass == "complex":
            made = made + conv(2 * expand, 1, name=f"bypass{number}")(x)
        x = overlapping_max_pool(made) if number in network.pooled else made
    return x


class SqueezeNet10(SqueezeNet):
    """Version 1.0; 1,248,424 parameters for 3 channels and 1000 classes (the paper: 4.8 MB)."""


class SqueezeNet11(SqueezeNet):
    """Version 1.1, 2.4 times cheaper; 1,235,496 parameters for 3 channels and 1000 classes.

    The first convolution has 64 filters of 3×3, and pooling comes earlier.
    Source: the authors' repository, forresti/SqueezeNet, `SqueezeNet_v1.1`.
    """

    stem: tuple[int, int, int] = (64, 3, 2)
    pooled: tuple[int, ...] = (1, 3, 5)


class SqueezeNet10Small(SqueezeNet):
    """Version 1.0 for 32×32 images: 729,034 parameters for 3 channels and 10 classes.

    The first convolution is 3×3 with stride 1 and SAME padding; no paper has this form.
    """

    image: ClassVar = (32, 32, 3)
    stem: tuple[int, int, int] = (96, 3, 1)
    padding: str = "SAME"


class SqueezeNet11Small(SqueezeNet11):
    """Version 1.1 for 32×32 images: 727,626 parameters for 3 channels and 10 classes.

    The first convolution has stride 1 and SAME padding; no paper has this form.
    """

    image: ClassVar = (32, 32, 3)
    stem: tuple[int, int, int] = (64, 3, 1)
    padding: str = "SAME"


def overlapping_max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum of each 3×3 window, stride 2, of [B, H, W, C].

    The last window may reach one row or column beyond the image, which counts for nothing: H
    becomes ⌈(H − 3) / 2⌉ + 1, as Caffe and PyTorch's `ceil_mode` have it.

    Raises:
      ValueError: the image is a single row or column.
    """
    if min(x.shape[1:3]) < 2:
        raise ValueError(layers.TOO_SMALL)
    for axis in (1, 2):
        size = x.shape[axis]
        if size % 2 == 0:  # the last entry once more changes no maximum
            last = jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
            x = jnp.concatenate([x, last], axis)
    return layers.max_pool(x, 3, 2)
