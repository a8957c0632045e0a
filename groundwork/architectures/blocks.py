"""Building blocks of compact networks, with what each costs."""

# k window, C inputs, O outputs, H W image, H' W' image after strides

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import he_fan_in, he_fan_out

Activation = Callable[[jax.Array], jax.Array]


def squeeze_excite(
    x: jax.Array, reduced: int, activation: Activation, dtype: DTypeLike
) -> jax.Array:
    """Returns each channel times a factor in (0, 1) that all channels' means decide.

    It makes two layers in the module that calls it: `reduce`, C → reduced, activation, and
    `restore`, reduced → C, sigmoid. [B, H, W, C] → [B, H, W, C]; 2·C·reduced + reduced + C
    parameters; 2·C·reduced multiply-adds, whatever the image's size.

    Source: Hu et al., arXiv:1709.01507, equations 2 to 4. Departs as MobileNet v3 and EfficientNet
    do: both layers have biases, and the activation may be another than ReLU.

    Args:
      x: images.
      reduced: channels between the two layers.
      activation: between them.
      dtype: the type in which the layers compute.
    """
    conv = functools.partial(layers.conv, kernel_init=he_fan_out, dtype=dtype)
    means = jnp.mean(x, (1, 2), keepdims=True)
    means = activation(conv(reduced, 1, name="reduce")(means))
    return x * nn.sigmoid(conv(x.shape[-1], 1, name="restore")(means))


class InvertedResidual(nn.Module):
    """A block that is wide inside and narrow outside: MobileNet v2's, MBConv where it has SE.

    A 1×1 convolution to E = expansion × C channels (none where expansion is 1), a k×k depthwise
    one, squeeze-and-excite if `reduced` is not 0, and a 1×1 convolution to O channels. BatchNorm
    follows each convolution, the activation each but the last. Where shapes allow it (strides 1,
    O = C), the inputs are added.

    [B, H, W, C] → [B, ⌈H / strides⌉, ⌈W / strides⌉, O]; with BatchNorm's scales and offsets
    C·E + k²·E + E·O + 4·E + 2·O parameters (k²·C + C·O + 2·C + 2·O where expansion is 1);
    H·W·C·E + H'·W'·E·(k² + O) multiply-adds (H'·W'·C·(k² + O)); and what squeeze-and-excite adds.

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
    """

    channels: int
    size: int
    strides: int
    expansion: int
    dtype: DTypeLike
    activation: Activation = nn.relu6
    reduced: int = 0
    drop: float = 0.0

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(layers.conv, bias=False, dtype=self.dtype)
        norm = functools.partial(layers.batch_norm, train=train, dtype=self.dtype)
        inside, x = inputs.shape[-1] * self.expansion, inputs
        if self.expansion > 1:
            x = conv(inside, 1, kernel_init=he_fan_out, name="expand")(x)
            x = self.activation(norm("expand_bn")(x))
        x = conv(
            inside,
            self.size,
            strides=self.strides,
            padding=self.size // 2,
            groups=inside,
            kernel_init=he_fan_in,
            name="depthwise",
        )(x)
        x = self.activation(norm("depthwise_bn")(x))
        if self.reduced:
            x = squeeze_excite(x, self.reduced, self.activation, self.dtype)
        x = conv(self.channels, 1, kernel_init=he_fan_out, name="project")(x)
        x = norm("project_bn")(x)
        if self.strides > 1 or inputs.shape[-1] != self.channels:
            return x
        drop = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), deterministic=not train)
        return drop(x) + inputs
