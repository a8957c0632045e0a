"""Networks of a few layers, and variables for them."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.traced.override import Override, compute

KEY = jax.random.key(0)


class Net(nn.Module):
    """Whatever the function does; layers that it makes are this one's."""

    body: Callable

    @nn.compact
    def __call__(self, x):
        return self.body(x)


class Listed(nn.Module):
    """Layers made in setup(), one of them in a list and one for another method alone."""

    def setup(self):
        self.stack = [nn.Dense(5), nn.Dense(4)]
        self.head = nn.Dense(3, use_bias=False)
        self.decoder = nn.Dense(6)

    def __call__(self, x):
        for layer in self.stack:
            x = nn.relu(layer(x))
        return self.head(x)

    def decode(self, x):
        return self.decoder(x)

    def both(self, x):
        return self(x), self.decode(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(3, name="a")(nn.Dropout(0.5, deterministic=not train)(x))


class Tied(nn.Dense):
    """A Dense that has a second method, which uses its kernel, too."""

    def back(self, x):
        return x @ self.variables["params"]["kernel"].T


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def drawn(model, x, **kwargs):
    """Variables without zeros, so that a bias that is lost is seen."""
    variables = jax.eval_shape(lambda key: model.init(key, x, **kwargs), KEY)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1, leaf.shape), "f4"), variables)


def twice(layer, kernel, inputs):
    return 2 * compute(layer, kernel, inputs)


SAME, TWICE = Override(compute), Override(twice)


def doubled(variables, *layers):
    """The variables of a network that computes as one in which `twice` is put there."""
    names = [f"params/{path}/kernel" for path in layers]
    return trees.map_with_path(lambda path, leaf: (1 + (path in names)) * leaf, variables)


def dense(name="a", features=4, **options):
    return lambda x: nn.Dense(features, name=name, **options)(x)
