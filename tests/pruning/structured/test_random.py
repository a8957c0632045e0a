"""Random networks without random units, once and twice, compute what zeros in their place do."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from pruning import structured
from tests.pruning.structured.test_narrowed import half
from tests.pruning.structured.zoo import drawn, quickly, rounded

TIME, FEATURES = 4, 3


def widths(draw):
    return int(draw.choice([4, 8]))


def gathered(x):
    return x[:, np.array([2, 0, 3, 1])]


def scattered(x):
    return jnp.zeros((len(x), TIME + 2, x.shape[2])).at[:, 1 : TIME + 1].add(x)[:, 1:-1]


def updated(x):
    return lax.dynamic_update_slice(x, x[:, :1] * 2, (0, 2, 0))


def ordered(x):
    return lax.sort(x, dimension=1)


def largest(x):
    best = lax.top_k(jnp.moveaxis(x, 1, 2), 2)[0]
    return jnp.moveaxis(jnp.concatenate([best, best], 2), 2, 1)


def switched(x):
    return lax.cond(x.sum() > 0, jnp.tanh, lambda x: x * 0.5, x)


def repeated(x):
    return lax.fori_loop(0, 2, lambda _, x: jnp.sin(x), x)


def summed(x):
    return lax.scan(lambda c, row: (0.5 * c + row, c), x[:, 0], jnp.moveaxis(x, 1, 0))[1].swapaxes(
        0, 1
    )


def turned(x):
    width = x.shape[2] // 2
    return x.reshape(len(x), TIME, 2, width).swapaxes(2, 3).reshape(x.shape)


def rolled(x):
    return jnp.concatenate([x[..., 2:], x[..., :2]], -1)


def padded(x):
    return jnp.pad(x[..., ::2], ((0, 0), (0, 0), (1, 1)))


def doubled(x):
    return jnp.tile(x, (1, 1, 2))


def flipped(x):
    return jnp.flip(x, 2)


def mapped(x):
    return jax.vmap(lambda row: row * nn.sigmoid(row.mean(0, keepdims=True)))(x)


def backwards(x):
    """The gradient of a function is a part of the network."""
    return jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2))(x)


BENT = [nn.relu, nn.silu, rounded, jax.checkpoint(jnp.tanh), gathered, scattered, updated, ordered]
BENT += [largest, switched, repeated, summed, turned, rolled, padded, doubled, flipped, mapped]
BENT += [backwards, lambda x: x - x.max(1, keepdims=True), lambda x: jnp.cumsum(x, 1)]


class Drawn(nn.Module):
    """Layers between random operations, with shortcuts where widths allow them."""

    seed: int

    @nn.compact
    def __call__(self, x):
        draw, before = np.random.default_rng(self.seed), []
        for number in range(3):
            kind = draw.integers(5)
            if kind == 0:
                x = nn.Conv(widths(draw), (3,), feature_group_count=2 if number else 1)(x)
            elif kind == 1:
                x = nn.remat(nn.Dense)(widths(draw))(x)
            elif kind == 2:
                x = nn.DenseGeneral((2, widths(draw) // 2))(x).reshape(len(x), TIME, -1)
            elif kind == 3:
                x = nn.LayerNorm(use_fast_variance=bool(draw.integers(2)))(nn.Dense(8)(x))
            else:
                x = nn.Dense(widths(draw))(x)
            for _ in range(2):
                x = BENT[draw.integers(len(BENT))](x)
            before += [x]
            other = before[draw.integers(len(before))]
            if other.shape == x.shape and draw.integers(2):
                x = x + other
            elif draw.integers(3) == 0:
                x = jnp.concatenate([x, other], -1)
        return nn.Dense(3, name="head")(x.mean(1))


def hold(seed):
    model = Drawn(seed)
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(2, TIME, FEATURES)), jnp.float32)
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x), seed)
    variables = jax.tree.map(np.asarray, variables)
    narrow, small, rounds = model, variables, []
    for turn in range(2):
        try:
            graph = structured.groups(narrow, small, x)
        except ValueError as error:
            if "nothing of this network can be removed" in str(error):
                break
            raise
        keep = half(graph, seed + turn)
        masked = structured.mask(graph, small, keep)
        narrow, small = structured.narrow(graph, small, keep)
        for before, kept in reversed(rounds):
            masked = structured.expand(before, masked, kept)
        rounds.append((graph, keep))
    if not rounds:
        return 0

    @quickly
    def both(masked, small):
        return [
            jax.value_and_grad(functools.partial(_loss, one, x))(given)
            for one, given in ((model, masked), (narrow, small))
        ]

    (expected, slopes), (got, ours) = both(masked, small)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    for graph, keep in rounds:
        slopes = structured.cut(graph, slopes, keep)
    near = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(near, ours, slopes)
    return sum(map(np.size, jax.tree.leaves(variables))) - sum(map(np.size, jax.tree.leaves(small)))


def _loss(model, x, variables):
    return jnp.sum(model.apply(variables, x) * jnp.asarray([[1.0, -0.5, 2.0], [0.3, 1.0, -1.0]]))


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 10**6))
def test_random_networks(seed):
    hold(seed)
