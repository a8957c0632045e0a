"""A small network, plans for it, and inputs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowrank
from groundwork.architectures.cpu import convolution
from groundwork.traced.network import Network
from lowrank import factorization

KEY = jax.random.key(0)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


class Small(nn.Module):
    """Convolutions with strides, BatchNorm, a Dense of two calls."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3), strides=2, conv_general_dilated=CONV, name="c")(x)
        x = nn.BatchNorm(use_running_average=not train, axis_name="data" if train else None)(x)
        x = nn.Conv(5, (2, 3), padding=1, conv_general_dilated=CONV, name="d")(nn.relu(x))
        twice = nn.Dense(5, name="twice")
        return nn.Dense(4, name="out")(nn.relu(twice(nn.relu(twice(x.mean((1, 2)))))))

    def halved(self, x):
        return self(x / 2)


def unchecked(*args, **kwargs):
    """`lowrank.factorize` without an example, which says so."""
    with pytest.warns(UserWarning, match="^no example: the factorised network was not compared"):
        return lowrank.factorize(*args, **kwargs)


CONV = convolution.conv_general_dilated
SMALL, IMAGES = Small(), (4, 7, 6, 2)
PLAN = {
    "c": {"method": "tucker", "rank": [2, 3]},
    "d": {"method": "spatial", "rank": 4},
    "twice": {"method": "svd", "rank": 2},
    "out": {"method": "svd", "rank": 1},
}
TRAINED = {  # quicker to compile
    **PLAN,
    "c": {"method": "spatial", "rank": 4},
    "d": {"method": "svd", "rank": 3},
}


@functools.cache
def small():
    return SMALL.init(KEY, normal(*IMAGES))


def factorised(key, example):
    """Variables of a network that starts in factorised form."""
    return factorization.decompose(SMALL.init(key, example), TRAINED)[0]


NETWORK = Network(factorised, factorization.override(SMALL, TRAINED))
