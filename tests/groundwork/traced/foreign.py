"""Networks as other people write them: name → function, variables, arguments, keywords."""

from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KEY = jax.random.key(0)


class Called(NamedTuple):
    """A network, and how it is called."""

    model: Any
    variables: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


class Mixed(nn.Module):
    """Convolutions of several kinds, attention, normalisation, dropout."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), strides=2, padding="CIRCULAR", name="circular")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.GroupNorm(num_groups=2)(nn.remat(nn.Conv)(4, (3, 3), name="rematerialised")(x))
        x = nn.Conv(6, (2, 2), feature_group_count=2, kernel_dilation=2, name="grouped")(x)
        x = x.reshape(len(x), -1, 6)
        x = nn.MultiHeadDotProductAttention(2, qkv_features=8, name="attention")(x)
        x = nn.Dropout(0.5, deterministic=not train)(x).mean(1)
        return nn.Dense(3, name="head")(x)


def _mixed(**kwargs):
    model, x = Mixed(), normal(2, 8, 8, 3)
    return Called(model, model.init(KEY, x), (x,), kwargs)


class Block(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.tanh(nn.remat(nn.Dense)(8, name="dense")(carry)), None


def _scanned():
    repeated = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    model, x = repeated(), normal(2, 8)
    return Called(model, model.init(KEY, x, None), (x, None), {})


def _recurrent():
    model, x = nn.RNN(nn.LSTMCell(4)), normal(2, 5, 8)
    return Called(model, model.init(KEY, x), (x,), {})


class _Cnn(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, 4, rngs=rngs, decode=False)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.conv(x)).reshape(len(x), -1, 8)
        return self.head(self.attention(x).mean(1))


def _nnx():
    graph, state = nnx.split(_Cnn(nnx.Rngs(0)))
    return Called(lambda state, x: nnx.merge(graph, state)(x), state, (normal(2, 6, 6, 3),), {})


def _equinox():
    model = eqx.nn.MLP(8, 2, 4, 2, key=KEY)
    return Called(lambda model, x: jax.vmap(model)(x), model, (normal(3, 8),), {})


def _equinox_images():
    layers = [eqx.nn.Conv2d(3, 4, 3, 2, key=KEY), eqx.nn.Lambda(jax.nn.relu)]
    model = eqx.nn.Sequential([*layers, eqx.nn.Conv2d(4, 2, 2, key=KEY)])
    return Called(lambda model, x: jax.vmap(model)(x), model, (normal(2, 3, 9, 8),), {})


def _haiku():
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))
    x = normal(2, 8)
    return Called(model, model.init(KEY, x), (x,), {})


def _plain():
    params = {"first": normal(6, 4), "second": normal(2, 4).astype(jnp.bfloat16)}

    def apply(params, tokens, *, table):
        x = jax.nn.gelu(table[tokens] @ params["first"])
        return jnp.einsum("btn,mn->mbt", x.astype(jnp.bfloat16), params["second"])

    return Called(apply, params, (jnp.arange(6).reshape(2, 3),), {"table": normal(6, 6)})


TRAINING = {"train": True, "rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
NETWORKS = {
    "linen": _mixed,
    "linen in training": lambda: _mixed(**TRAINING),
    "linen, scanned": _scanned,
    "linen, recurrent": _recurrent,
    "nnx": _nnx,
    "equinox": _equinox,
    "equinox images": _equinox_images,
    "haiku": _haiku,
    "plain": _plain,
}
LAYERS = {  # path → shape of the layer's kernel
    "linen": {
        "circular": (3, 3, 3, 4),
        "rematerialised": (3, 3, 4, 4),
        "grouped": (2, 2, 2, 6),
        "attention/query": (6, 8),
        "attention/key": (6, 8),
        "attention/value": (6, 8),
        "attention/out": (8, 6),
        "head": (6, 3),
    },
    "linen, scanned": {"dense": (8, 8)},
    "linen, recurrent": {f"cell/{a}{b}": (8 if a == "i" else 4, 4) for b in "ifgo" for a in "ih"},
    "nnx": {
        "conv": (3, 3, 3, 8),
        "attention/query": (8, 4),
        "attention/key": (8, 4),
        "attention/value": (8, 4),
        "attention/out": (4, 8),
        "head": (8, 5),
    },
    "equinox": {"layers/0": (8, 4), "layers/1": (4, 4), "layers/2": (4, 2)},
    "equinox images": {"layers/0": (3, 3, 3, 4), "layers/2": (2, 2, 4, 2)},
    "haiku": {"mlp/~/linear_0": (8, 4), "mlp/~/linear_1": (4, 2)},
    "plain": {"first": (6, 4), "second": (4, 2)},
}
LAYERS["linen in training"] = LAYERS["linen"]
