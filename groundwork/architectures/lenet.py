"""LeNet-300-100 and LeNet-5, the first subjects of lottery tickets and deep compression."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from groundwork.architectures import layers
from groundwork.architectures.initializers import scaled


class LeNet300100(nn.Module):
    """inputs-300-100-classes with ReLU; 266,610 parameters for 784 inputs and 10 classes.

    Kernels are Gaussian Glorot, biases zero.
    Source: Frankle & Carbin, arXiv:1803.03635, Figure 2.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        dense = functools.partial(nn.Dense, kernel_init=layers.glorot, dtype=self.dtype)
        x = inputs.reshape((inputs.shape[0], -1))
        for name, units in (("fc1", 300), ("fc2", 100)):
            x = nn.relu(dense(scaled(units, self.width), name=name)(x))
        return dense(self.classes, name="output")(x)


class LeNet5(nn.Module):
    """Two 5×5 convolutions (20, 50 channels, VALID), each with 2×2 max-pooling; 500; classes.

    431,080 parameters for 28×28×1 and 10 classes: Caffe's form, which deep compression uses.
    Kernels are Gaussian Glorot, biases zero. Source: Han et al., arXiv:1510.00149, Table 3.
    Departs: ReLU follows each convolution too, as in the lottery-ticket literature.
    """

    classes: int
    width: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(layers.conv, kernel_init=layers.glorot, dtype=self.dtype)
        dense = functools.partial(nn.Dense, kernel_init=layers.glorot, dtype=self.dtype)
        x = layers.as_images(inputs)
        for name, channels in (("conv1", 20), ("conv2", 50)):
            x = conv(scaled(channels, self.width), 5, padding="VALID", name=name)(x)
            x = layers.max_pool(nn.relu(x))
        x = layers.flatten(x)
        x = nn.relu(dense(scaled(500, self.width), name="fc1")(x))
        return dense(self.classes, name="output")(x)
