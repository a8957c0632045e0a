"""Small networks that have, one after the other, what structured pruning must follow."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHAPE, CLASSES = (8, 8, 3), 5


def images(batch=2):
    draw = np.random.default_rng(1)
    return jnp.asarray(draw.normal(size=(batch, *SHAPE)), jnp.float32)


def drawn(shapes, seed=3):
    """Variables drawn by numpy; none is zero, and variances are positive."""
    draw = np.random.default_rng(seed)

    def one(leaf):
        if len(leaf.shape) < 2:
            return jnp.asarray(draw.uniform(0.1, 2, leaf.shape), leaf.dtype)
        scale = np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(draw.normal(size=leaf.shape) / scale, leaf.dtype)

    return jax.tree.map(one, shapes)


def quickly(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def flat(x):
    return x.reshape(len(x), -1)


class Net(nn.Module):
    """A stem of 16 channels, something in the middle, and a head."""

    kind: str

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(16, (3, 3), name="stem")(x))
        x = MIDDLES[self.kind](x, train)
        if x.ndim == 4:
            x = x.mean((1, 2))
        return nn.Dense(CLASSES, name="head")(x)


def shuffle(x, train):
    x = x.reshape(*x.shape[:3], 4, 4).swapaxes(3, 4).reshape(x.shape)
    return nn.Conv(8, (3, 3))(x)


def squeeze_excite(x, train):
    gate = nn.Dense(16)(nn.relu(nn.Dense(4)(x.mean((1, 2)))))
    return x * nn.sigmoid(gate)[:, None, None]


def dense_block(x, train):
    for _ in range(2):
        y = nn.relu(nn.BatchNorm(use_running_average=not train, axis_name=None)(x))
        x = jnp.concatenate([x, nn.Conv(4, (3, 3))(y)], -1)
    return nn.Conv(6, (1, 1))(x)


def padded_shortcut(x, train):
    y = nn.Conv(24, (3, 3), (2, 2))(x)
    return nn.relu(y + jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (4, 4))))


def halves(x, train):
    one, two = jnp.split(x, 2, -1)
    return nn.Conv(6, (3, 3))(one) * nn.sigmoid(nn.Conv(6, (1, 1))(two))


def attention(x, train):
    x = nn.Dense(16, name="tokens")(flat(x).reshape(len(x), 16, 64))
    q, k, v = jnp.moveaxis(nn.Dense(48, name="qkv")(x).reshape(len(x), 16, 3, 4, 4), 2, 0)
    weights = nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k) / 2)
    y = jnp.einsum("bhqk,bkhe->bqhe", weights, v).reshape(x.shape)
    x = x + nn.Dense(16, name="out")(nn.Dropout(0.1, deterministic=not train)(y))
    return nn.LayerNorm()(x).mean(1)


def scanned(x, train):
    class Body(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(16)(nn.relu(nn.Dense(8)(x))), None

    body = nn.scan(Body, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
    return body()(x.mean((1, 2)), None)[0]


def branches(x, train):
    y = nn.Dense(8)(x.mean((1, 2)))
    return lax.cond(jnp.sum(y) > 0, lambda y: jnp.tanh(y), lambda y: y * 2, y)


def loop(x, train):
    y = nn.Dense(8)(x.mean((1, 2)))
    return lax.while_loop(lambda c: c[1] < 3, lambda c: (jnp.sin(c[0]), c[1] + 1), (y, 0))[0]


def sorted_over_time(x, train):
    y = flat(x).reshape(len(x), 64, 16)
    return lax.top_k(jnp.moveaxis(lax.sort(y, dimension=1), 1, 2), 3)[0].mean(2)


def written(x, train):
    cache = jnp.zeros((len(x), 9, 16))
    cache = lax.dynamic_update_slice(cache, x.mean((1, 2))[:, None], (0, 3, 0))
    cache = cache.at[:, 5].add(x.max((1, 2)))
    return lax.dynamic_slice(cache, (0, 3, 0), (len(x), 3, 16)).sum(1)


@jax.custom_vjp
def rounded(x):
    return jnp.round(x * 8) / 8


rounded.defvjp(lambda x: (rounded(x), jnp.abs(x) < 1), lambda inside, g: (g * inside,))


def straight_through(x, train):
    return nn.Conv(8, (3, 3))(rounded(x))


MIDDLES = {
    "plain": lambda x, train: nn.Conv(8, (3, 3))(x),
    "flat": lambda x, train: nn.relu(nn.Dense(12)(flat(x))),
    "group_norm": lambda x, train: nn.Conv(8, (3, 3))(nn.GroupNorm(4)(x)),
    "grouped": lambda x, train: nn.relu(nn.Conv(16, (3, 3), feature_group_count=4)(x)),
    "depthwise": lambda x, train: nn.Conv(32, (3, 3), feature_group_count=16)(x),
    "transposed": lambda x, train: nn.relu(nn.ConvTranspose(8, (2, 2), strides=(2, 2))(x)),
    "prelu": lambda x, train: nn.PReLU()(nn.Conv(8, (3, 3))(x)),
    "glu": lambda x, train: nn.glu(nn.Dense(24)(x)),
    "one_channel": lambda x, train: x * nn.sigmoid(nn.Conv(1, (1, 1))(x)),
    "pooled": lambda x, train: nn.avg_pool(nn.max_pool(x, (2, 2), (2, 2)), (2, 2), (2, 2)),
    "rematerialised": lambda x, train: nn.remat(nn.Conv)(8, (3, 3))(x),
    "embedded": lambda x, train: nn.Embed(7, 12)((x[:, 0, :, 0] * 5).astype(int) % 7).mean(1),
    "recurrent": lambda x, train: nn.RNN(nn.OptimizedLSTMCell(12))(x[:, 0])[:, -1],
    "shuffle": shuffle,
    "squeeze_excite": squeeze_excite,
    "dense_block": dense_block,
    "padded_shortcut": padded_shortcut,
    "halves": halves,
    "attention": attention,
    "scanned": scanned,
    "branches": branches,
    "loop": loop,
    "sorted": sorted_over_time,
    "written": written,
    "straight_through": straight_through,
}
