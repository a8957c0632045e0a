"""A network with exits that compiles at once: what `predict` and `objective` need of any."""

import flax.linen as nn
import jax.numpy as jnp

from groundwork.architectures import layers
from msdnet.exit_network import ExitNetwork

SHAPE = (8, 8, 1)


class Block(nn.Module):
    """A finer and a coarser feature map, both vectors; the coarser one sees both."""

    @nn.compact
    def __call__(self, finer, coarser, train):
        finer = jnp.tanh(nn.Dense(6, name="finer")(finer))
        x = nn.Dense(8, name="coarser")(jnp.concatenate([finer, coarser], -1))
        return finer, jnp.tanh(layers.batch_norm("bn", train, jnp.float32)(x))


class DenseExits(ExitNetwork):
    """Three exits, ten classes."""

    def setup(self):
        self.backbone = [Block() for _ in range(3)]
        self.classifier = [nn.Dense(10) for _ in range(3)]

    @property
    def exits(self):
        return 3

    def advance(self, k, features, train=False):
        if k == 0:
            pixels = features.reshape(len(features), -1)
            features = pixels, pixels
        return self.backbone[k](*features, train)

    def classify(self, k, features, train=False):
        return self.classifier[k](features[-1])
