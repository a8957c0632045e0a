"""Network in Network: 1×1 convolutions after each convolution, and classes by averaging maps."""

import functools
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled

DROPPED = 0.5


class Stage(NamedTuple):
    """A convolution and two 1×1 ones, then pooling and dropout.

    Attributes:
      channels: of the three; 0 = the classes.
      size: of the first one's window.
      strides: of the first one.
      padding: pixels around the first one's images.
      pool: `max` or `average` over 3×3 with stride 2, or none.
      dropped: whether half of the outputs are dropped in training.
    """

    channels: tuple[int, int, int]
    size: int
    strides: int = 1
    padding: int = 0
    pool: str = ""
    dropped: bool = False


class NIN(nn.Module):
    """Four stages, global average of one map per class; 7,595,176 parameters for 1000 classes.

    A stage is a convolution (11×11 with stride 4, 5×5, 3×3, 3×3) and two 1×1 ones, each with ReLU;
    3×3 max-pooling with stride 2 follows the first three stages, and its last window may reach
    over the edge, as in Caffe. Half of the outputs of the third pooling are dropped in training.
    1,100,188,800 multiply-adds at 224×224.

    Source: Lin et al., arXiv:1312.4400, in the form for ImageNet that its authors published for
    Caffe. ReLU follows the last convolution too, and kernels are normal, with deviation 0.01 in
    the first convolution of a stage and 0.05 in the others; biases are zero.

    Attributes:
      classes: number of outputs.
      width: multiplies all channels but the classes.
      dtype: the type in which layers compute.
      stages: from the images on.
    """

    image: ClassVar = (224, 224, 3)

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32
    stages: tuple[Stage, ...] = (
        Stage((96, 96, 96), 11, strides=4, pool="max"),
        Stage((256, 256, 256), 5, padding=2, pool="max"),
        Stage((384, 384, 384), 3, padding=1, pool="max", dropped=True),
        Stage((1024, 1024, 0), 3, padding=1),
    )

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, dtype=self.dtype)
        first, rest = nn.initializers.normal(0.01), nn.initializers.normal(0.05)
        x = layers.as_images(inputs)
        for number, stage in enumerate(self.stages, 1):
            units = [scaled(c, self.width) if c else self.classes for c in stage.channels]
            x = conv(
                units[0],
                stage.size,
                strides=stage.strides,
                padding=stage.padding,
                kernel_init=first,
                name=f"conv{number}",
            )(x)
            x = nn.relu(x)
            for place in (1, 2):
                last = number == len(self.stages) and place == 2
                name = "output" if last else f"pointwise{number}_{place}"
                x = nn.relu(conv(units[place], 1, kernel_init=rest, name=name)(x))
            x = _pooled(x, stage.pool) if stage.pool else x
            x = nn.Dropout(DROPPED, deterministic=not train)(x) if stage.dropped else x
        return layers.global_average(x)


class NINSmall(NIN):
    """Three stages for images of 32×32; 966,986 parameters for 3 channels and 10 classes.

    Max-pooling follows the first stage, average pooling the second (32 → 16 → 8), each with
    dropout.

    Source: the authors' form for CIFAR-10 (the paper: 0.97 M parameters).
    """

    image: ClassVar = (32, 32, 3)

    stages: tuple[Stage, ...] = (
        Stage((192, 160, 96), 5, padding=2, pool="max", dropped=True),
        Stage((192, 192, 192), 5, padding=2, pool="average", dropped=True),
        Stage((192, 192, 0), 3, padding=1),
    )


def _pooled(x: jax.Array, kind: str) -> jax.Array:
    """Returns each 3×3 with stride 2; the last window covers what is left of it, as in Caffe."""
    sides = x.shape[1:3]
    if min(sides) < 3:
        raise ValueError(layers.TOO_SMALL)
    over = [(0, 0), *((0, (side - 3) % 2) for side in sides), (0, 0)]
    if kind == "max":
        return layers.max_pool(jnp.pad(x, over, constant_values=-jnp.inf), 3)
    inside = layers.average_pool(jnp.pad(jnp.ones((1, *sides, 1), x.dtype), over), 3)
    return layers.average_pool(jnp.pad(x, over), 3) / inside
