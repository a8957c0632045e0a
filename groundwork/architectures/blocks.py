"""Building blocks of compact networks, with what each costs. All are padded to keep the image.

Kernels are normal with variance 2 / fan out, of depthwise and group convolutions 2 / fan in;
convolutions have no biases unless it is said, since BatchNorm follows them.
"""

# k window, odd, C inputs, O outputs, H W image, s strides, H' = ⌈H / s⌉ and W' = ⌈W / s⌉

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import he_fan_in, he_fan_out

Activation = Callable[[jax.Array], jax.Array]


class Stage(NamedTuple):
    """Inverted residual blocks that follow each other: a row of a paper's table."""

    expansion: int
    size: int
    strides: int
    channels: int
    blocks: int


def standard(
    channels: int, size: int, *, name: str, dtype: DTypeLike, strides: int = 1
) -> nn.Module:
    """Returns a convolution in which each output sees all inputs.

    [B, H, W, C] → [B, H', W', O]; k²·C·O parameters; H'·W'·k²·C·O multiply-adds.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import blocks
        >>> conv = blocks.standard(8, 3, name="conv", dtype=jnp.float32)
        >>> variables = architectures.shapes(conv, (6, 6, 4))
        >>> variables["params"]["kernel"].shape, architectures.count(variables)  # 3² · 4 · 8
        ((3, 3, 4, 8), 288)
    """
    return dilated(channels, size, 1, name=name, dtype=dtype, strides=strides)


def dilated(
    channels: int, size: int, dilation: int, *, name: str, dtype: DTypeLike, strides: int = 1
) -> nn.Module:
    """Returns a convolution whose taps are `dilation` pixels apart (atrous convolution).

    It costs what `standard` does and sees dilation·(k − 1) + 1 pixels each way: n of them with
    dilations 1, 2, 4, …, 2ⁿ⁻¹ and k = 3 see 2ⁿ⁺¹ − 1.

    Source: Yu & Koltun, arXiv:1511.07122, equation 2.

    Example:
        >>> from groundwork.architectures import blocks
        >>> conv = blocks.dilated(1, 3, 2, name="conv", dtype=jnp.float32)
        >>> variables = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
        >>> pixel = np.zeros((1, 5, 5, 1), np.float32)
        >>> pixel[0, 2, 2] = 1.0  # which outputs see it?
        >>> print(np.asarray(conv.apply(variables, pixel), int)[0, :, :, 0])
        [[1 0 1 0 1]
         [0 0 0 0 0]
         [1 0 1 0 1]
         [0 0 0 0 0]
         [1 0 1 0 1]]
    """
    return layers.conv(
        channels,
        size,
        name=name,
        kernel_init=he_fan_out,
        dtype=dtype,
        strides=strides,
        padding=dilation * (size // 2),
        bias=False,
        dilation=dilation,
    )


def group(
    channels: int, size: int, groups: int, *, name: str, dtype: DTypeLike, strides: int = 1
) -> nn.Module:
    """Returns a convolution of `groups` equal parts, which see as many parts of the inputs.

    [B, H, W, C] → [B, H', W', O]; k²·C·O / groups parameters; H'·W'·k²·C·O / groups multiply-adds.

    Source: Xie et al., arXiv:1611.05431, Section 3; Zhang et al., arXiv:1707.01083, Section 3.1.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import blocks
        >>> conv = blocks.group(8, 3, 2, name="conv", dtype=jnp.float32)
        >>> variables = architectures.shapes(conv, (6, 6, 4))  # each output sees 2 of the 4 inputs
        >>> variables["params"]["kernel"].shape, architectures.count(variables)
        ((3, 3, 2, 8), 144)
    """
    return layers.conv(
        channels,
        size,
        name=name,
        kernel_init=he_fan_in if groups > 1 else he_fan_out,
        dtype=dtype,
        strides=strides,
        padding=size // 2,
        bias=False,
        groups=groups,
    )


def depthwise(
    channels: int, size: int, *, name: str, dtype: DTypeLike, strides: int = 1
) -> nn.Module:
    """Returns a convolution of each channel by itself.

    [B, H, W, C] → [B, H', W', C]; k²·C parameters; H'·W'·k²·C multiply-adds.

    Source: Howard et al., arXiv:1704.04861, equation 3.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import blocks
        >>> conv = blocks.depthwise(4, 3, name="conv", dtype=jnp.float32)
        >>> variables = architectures.shapes(conv, (6, 6, 4))  # each output sees its own input
        >>> variables["params"]["kernel"].shape, architectures.count(variables)
        ((3, 3, 1, 4), 36)
    """
    return group(channels, size, channels, name=name, dtype=dtype, strides=strides)


def pointwise(channels: int, *, name: str, dtype: DTypeLike, strides: int = 1) -> nn.Module:
    """Returns a convolution of each pixel by itself.

    [B, H, W, C] → [B, H', W', O]; C·O parameters; H'·W'·C·O multiply-adds.

    Example:
        >>> from groundwork.architectures import blocks
        >>> conv = blocks.pointwise(1, name="conv", dtype=jnp.float32)
        >>> variables = {"params": {"kernel": jnp.array([[[[1.0], [10.0]]]])}}  # [1, 1, 2, 1]
        >>> pixels = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])  # a row of two, of two channels
        >>> conv.apply(variables, pixels).tolist()
        [[[[21.0], [43.0]]]]
    """
    return standard(channels, 1, name=name, dtype=dtype, strides=strides)


def separable(
    x: jax.Array, channels: int, size: int, *, names: tuple[str, str], dtype: DTypeLike
) -> jax.Array:
    """Returns the inputs after a depthwise and a pointwise convolution, nothing in between.

    It makes these layers in the module that calls it. [B, H, W, C] → [B, H, W, O]; k²·C + C·O
    parameters; H·W·C·(k² + O) multiply-adds: 1 / O + 1 / k² of `standard`'s. Together they are the
    standard convolution whose kernel is depthwise[h, w, c] × pointwise[c, o].

    Source: Chollet, arXiv:1610.02357, Section 1.2; its cost: arXiv:1704.04861, equation 5.

    Example:
        >>> import flax.linen as nn
        >>> from groundwork import architectures
        >>> from groundwork.architectures import blocks
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return blocks.separable(x, 8, 3, names=("each", "mix"), dtype=jnp.float32)
        >>> params = architectures.shapes(Block(), (6, 6, 4))["params"]
        >>> {layer: leaves["kernel"].shape for layer, leaves in params.items()}  # 36 + 32, not 288
        {'each': (3, 3, 1, 4), 'mix': (1, 1, 4, 8)}
    """
    x = depthwise(x.shape[-1], size, name=names[0], dtype=dtype)(x)
    return pointwise(channels, name=names[1], dtype=dtype)(x)


def shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Returns the channels in another order, so that each next group sees all `groups`.

    Channel g·(C / groups) + c comes to place c·groups + g. No parameters, no multiply-adds.

    Source: Zhang et al., arXiv:1707.01083, Section 3.1.

    Args:
      x: [B, H, W, C].
      groups: a divisor of C.

    Example:
        >>> from groundwork.architectures import blocks
        >>> channels = jnp.arange(6).reshape(1, 1, 1, 6)  # two groups: 0 1 2 and 3 4 5
        >>> blocks.shuffle(channels, 2).ravel().tolist()
        [0, 3, 1, 4, 2, 5]
    """
    parts = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return jnp.swapaxes(parts, -1, -2).reshape(x.shape)


def squeeze_excite(
    x: jax.Array, reduced: int, activation: Activation, dtype: DTypeLike
) -> jax.Array:
    """Returns each channel times a factor in (0, 1) that all channels' means decide.

    It makes two layers in the module that calls it: `reduce`, C → reduced, activation, and
    `restore`, reduced → C, sigmoid. [B, H, W, C] → [B, H, W, C]; 2·C·reduced + reduced + C
    parameters; 2·C·reduced multiply-adds, whatever the image's size.

    Source: Hu et al., arXiv:1709.01507, equations 2 to 4. Departs as MobileNet v3 and EfficientNet
    do: both layers have biases, and the activation may be another than ReLU.

    Example:
        >>> import flax.linen as nn
        >>> from groundwork import architectures
        >>> from groundwork.architectures import blocks
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return blocks.squeeze_excite(x, 2, nn.relu, jnp.float32)
        >>> params = architectures.shapes(Block(), (6, 6, 4))["params"]
        >>> {layer: architectures.count(leaves) for layer, leaves in params.items()}
        {'reduce': 10, 'restore': 12}
    """
    means = jnp.mean(x, (1, 2), keepdims=True)
    for channels, name, after in (
        (reduced, "reduce", activation),
        (x.shape[-1], "restore", nn.sigmoid),
    ):
        conv = layers.conv(channels, 1, name=name, kernel_init=he_fan_out, dtype=dtype)
        means = after(conv(means))
    return x * means


class InvertedResidual(nn.Module):
    """A block that is wide inside and narrow outside: MobileNet v2's, MBConv where it has SE.

    A 1×1 convolution to E = expansion × C channels (none where expansion is 1), a k×k depthwise
    one, squeeze-and-excite if `reduced` is not 0, and a 1×1 convolution to O channels. BatchNorm
    follows each convolution, the activation each but the last. Where shapes allow it (strides 1,
    O = C), the inputs are added.

    [B, H, W, C] → [B, H', W', O]; with BatchNorm's scales and offsets C·E + k²·E + E·O + 4·E + 2·O
    parameters (k²·C + C·O + 2·C + 2·O where expansion is 1); H·W·C·E + H'·W'·E·(k² + O)
    multiply-adds (H'·W'·C·(k² + O)); and what squeeze-and-excite adds.

    Source: Sandler et al., arXiv:1801.04381, Table 1 and Section 3.3.

    Attributes:
      channels: O.
      size: k, odd; (k − 1) / 2 pixels are padded on every side.
      strides: of the depthwise convolution.
      expansion: E / C.
      dtype: the type in which layers compute.
      activation: after the first two convolutions.
      reduced: channels that squeeze-and-excite reduces to; 0 = there is none.
      drop: in training, the probability that an example's block is its inputs alone (stochastic
        depth, Huang et al., arXiv:1603.09382; what remains is divided by 1 − drop).
      momentum: of BatchNorm.
    """

    channels: int
    size: int
    strides: int
    expansion: int
    dtype: DTypeLike
    activation: Activation = nn.relu6
    reduced: int = 0
    drop: float = 0.0
    momentum: float = layers.BATCH_NORM_MOMENTUM

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        def normed(name: str, x: jax.Array) -> jax.Array:
            return layers.batch_norm(f"{name}_bn", train, self.dtype, self.momentum)(x)

        x, inside = inputs, inputs.shape[-1] * self.expansion
        if self.expansion > 1:
            x = pointwise(inside, name="expand", dtype=self.dtype)(x)
            x = self.activation(normed("expand", x))
        conv = depthwise(
            inside, self.size, name="depthwise", dtype=self.dtype, strides=self.strides
        )
        x = self.activation(normed("depthwise", conv(x)))
        if self.reduced:
            x = squeeze_excite(x, self.reduced, self.activation, self.dtype)
        x = normed("project", pointwise(self.channels, name="project", dtype=self.dtype)(x))
        if self.strides > 1 or inputs.shape[-1] != self.channels:
            return x
        drop = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), deterministic=not train)
        return drop(x) + inputs
