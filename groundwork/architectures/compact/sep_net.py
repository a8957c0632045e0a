"""SEP-Net: k×k kernels are patterns of two values beside 1×1 convolutions that transform."""

# C channels, k window

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

GROUPS = 4  # of channels, in pattern residual blocks and in the convolutions from `conv3` on
STAGES = ((64, 1), (128, 1), (256, 2), (256, 2), (256, 1))  # channels and modules of each


def binarized(kernel: jax.Array) -> jax.Array:
    """Returns a kernel of the values ±a with the signs of the given one.

    a is the mean of |w| over the entries that are not 0, the best in least squares (Rastegari et
    al., arXiv:1603.05279, equation 6). An entry of exactly 0 stays 0: where a weight is pruned, the
    pattern has a hole. The gradient passes straight through, as if the result were the kernel
    itself (Bengio et al., arXiv:1308.3432).
    """
    wide = jax.lax.stop_gradient(kernel).astype(jnp.float32)
    kept = jnp.sum(wide != 0)
    mean = jnp.sum(jnp.abs(wide)) / jnp.maximum(kept, 1)
    values = (jnp.sign(wide) * mean).astype(kernel.dtype)
    return values + (kernel - jax.lax.stop_gradient(kernel))  # the bracket is 0


class Pattern(nn.Module):
    """A 3×3 convolution in groups whose kernel is binarised, [B, H, W, C] → [B, H, W, channels]."""

    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", layers.he, (3, 3, x.shape[-1] // GROUPS, self.channels))
        return layers.convolve(x, binarized(kernel), dtype=self.dtype, padding=1, groups=GROUPS)


class PatternBlock(nn.Module):
    """A pattern residual block, [B, H, W, C] → [B, H, W, channels].

    A 3×3 and a 1×1 convolution of the same inputs are added; both have four groups. BatchNorm and
    ReLU follow. It has (9 + 1) · C · channels / 4 weights, as many multiply-adds per pixel, and
    2 · channels parameters of BatchNorm.
    """

    channels: int
    binary: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(
            layers.conv, groups=GROUPS, bias=False, kernel_init=layers.he, dtype=self.dtype
        )
        pattern: nn.Module
        if self.binary:
            pattern = Pattern(self.channels, self.dtype, name="pattern")
        else:
            pattern = conv(self.channels, 3, name="pattern")
        x = pattern(x) + conv(self.channels, 1, name="conv1")(x)
        return nn.relu(layers.batch_norm("bn1", train, self.dtype)(x))


class SEPModule(nn.Module):
    """A SEP-Net module, [B, H, W, C] → [B, H, W, C], with 27/16 · C² weights.

    A 1×1 convolution to C / 2 channels, two pattern residual blocks with C / 2 and C / 4, and a 1×1
    convolution back to C, to which the inputs are added. It has 27/16 · C² multiply-adds per pixel,
    27/32 · C² of them by patterns. C is a multiple of 16.
    """

    binary: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        channels = inputs.shape[-1]
        x = nn.relu(norm("bn1")(conv(channels // 2, 1, name="conv1")(inputs)))
        x = PatternBlock(channels // 2, self.binary, self.dtype, name="pattern1")(x, train)
        x = PatternBlock(channels // 4, self.binary, self.dtype, name="pattern2")(x, train)
        x = norm("bn2")(conv(channels, 1, name="conv2")(x))
        return nn.relu(x + inputs)


class SEPNet(nn.Module):
    """Five convolutions with stride 2, each with SEP-Net modules after it; average; classes.

    1,300,232 parameters for 1000 classes (the paper's SEP-Net-R: 1.3 M). The first convolution is
    5×5 and has 64 channels, the others are 3×3 with 128, 256, 256 and 256, from the third on in
    four groups; one, one, two, two and one modules follow them. Kernels are He normal, the bias is
    zero; BatchNorm (momentum 0.9, epsilon 1e-5) follows every convolution or sum of two, and ReLU
    every BatchNorm or, in a module, the addition.

    With `binary`, the 3×3 kernels of the pattern residual blocks (293,760 weights) have two values,
    see `binarized`; parameters stay float32 arrays of the same names and shapes, so a trained plain
    network continues as a binary one. At one bit for each of them and 32 for the rest that is
    4.06 MB (the paper's SEP-Net-B: 4.2 MB), and at 8 bits for the rest 1.04 MB (SEP-Net-BQ: 1.3 MB,
    which are 8 bits for every one of 1.3 M). Whatever needs the kernel as it is multiplied (low
    rank, activations of 8 bits) cannot take the patterns and lists them.

    Source: Li et al., arXiv:1706.03912. Layers up to the fourth module are as others name them who
    have the authors' files; we have not read the paper's own table. Assumed: the layers after that,
    chosen to meet 1.3 M; where BatchNorm and ReLU stand; and that the strided convolutions keep
    their values, as those do in the ResNet-20 that the authors published for Caffe. Departs: the
    authors choose one a for a network by trial, binarise once after training and keep the patterns
    from then on, where here a is the layer's mean and the patterns go on learning by the straight-
    through gradient.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels, rounded to multiples of 16.
      dtype: the type in which layers compute.
      binary: whether the pattern residual blocks' 3×3 kernels are binarised.
      small: whether it takes images of 32×32.
    """

    image: ClassVar = (224, 224, 3)
    settings: ClassVar[tuple[str, ...]] = ("binary",)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    binary: bool = False
    small: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        x = layers.as_images(inputs)
        for stage, (channels, modules) in enumerate(STAGES, 1):
            x = conv(
                16 * scaled(channels // 16, self.width),
                3 if stage > 1 else 5,
                strides=1 if self.small and stage < 3 else 2,
                padding=2 if self.small and stage == 1 else 1,
                groups=GROUPS if stage > 2 else 1,
                name=f"conv{stage}",
            )(x)
            x = nn.relu(norm(f"bn{stage}")(x))
            for module in range(1, modules + 1):
                name = f"block{stage}_{module}"
                x = SEPModule(self.binary, self.dtype, name=name)(x, train)
        x = layers.global_average(x)
        return nn.Dense(self.classes, dtype=self.dtype, kernel_init=layers.he, name="output")(x)


class SEPNetSmall(SEPNet):
    """1,045,802 parameters for 3 channels and 10 classes.

    The first two convolutions have stride 1, the first with two pixels of padding (32 → 16 → 8 → 4
    by the other three).
    """

    image: ClassVar = (32, 32, 3)
    small: bool = True
