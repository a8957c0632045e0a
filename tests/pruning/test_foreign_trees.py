"""Masks on the trees of parameters that other libraries have, under their own optimisers."""

import equinox as eqx
import flax
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from groundwork import trees
from pruning import masks
from pruning.enforce import enforce

KEY, X = jax.random.key(0), jnp.ones((2, 3))


class _NNX(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.stack = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        for layer in self.stack:
            x = layer(x)
        return x


def _linen(boxed=False):
    init = nn.initializers.lecun_normal()
    kernel_init = nn.with_partitioning(init, ("in", "out")) if boxed else init
    model = nn.Sequential([nn.Dense(4, kernel_init=kernel_init), nn.relu, nn.Dense(2)])
    return model, model.init(KEY, X)["params"]


def _weights(path):
    return path.rpartition("/")[2] in ("kernel", "weight", "w")


TREES = {
    "linen": lambda: _linen()[1],
    "frozen": lambda: flax.core.freeze(_linen()[1]),
    "boxed": lambda: _linen(boxed=True)[1],
    "nnx state": lambda: nnx.state(_NNX(nnx.Rngs(0)), nnx.Param),
    "nnx pure": lambda: nnx.to_pure_dict(nnx.state(_NNX(nnx.Rngs(0)), nnx.Param)),
    "equinox": lambda: eqx.filter(eqx.nn.MLP(3, 2, 4, 1, key=KEY), eqx.is_array),
    "haiku": lambda: hk.transform(lambda x: hk.nets.MLP([4, 2])(x)).init(KEY, X),
    "integers beside": lambda: {"a": {"kernel": jnp.ones((3, 4))}, "steps": jnp.arange(3)},
    "bfloat16": lambda: {"a": {"kernel": jnp.ones((3, 4), jnp.bfloat16)}},
    "a list": lambda: [{"kernel": jnp.ones((3, 4))}, {"kernel": jnp.ones((4, 2))}],
}


def _half(params):
    """A mask of half of the weights."""
    rng = np.random.default_rng(0)
    mask = masks.ones(params, _weights)
    return {path: jnp.asarray(rng.random(keep.shape) < 0.5) for path, keep in mask.items()}


@pytest.mark.parametrize("name", TREES)
def test_pruned_weights_of_any_tree_stay_zero(name):
    params = TREES[name]()
    mask = _half(params)
    optimizer = enforce(optax.adamw(0.1), mask)
    params = masks.apply(mask, params)
    state = optimizer.init(params)
    for _ in range(3):
        gradients = jax.tree.map(jnp.ones_like, params)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    assert jax.tree.structure(params) == jax.tree.structure(TREES[name]())
    leaves = trees.flatten(params)
    for path, keep in mask.items():
        assert not np.asarray(leaves[path], "f4")[~keep].any()
        assert np.asarray(leaves[path], "f4")[keep].all()


def test_a_box_and_its_array_have_one_path():
    boxed, bare = (masks.ones(_linen(boxed=b)[1]) for b in (True, False))
    assert boxed.keys() == bare.keys() == {"layers_0/kernel", "layers_2/kernel"}


def test_an_nnx_optimizer_keeps_a_module_pruned():
    model = _NNX(nnx.Rngs(0))
    mask = _half(nnx.state(model, nnx.Param))
    assert set(mask) == {"first/kernel", "stack/0/kernel", "stack/1/kernel"}
    nnx.update(model, masks.apply(mask, nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, enforce(optax.adam(0.1), mask), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradients = nnx.grad(lambda model: jnp.sum(jnp.square(model(X) - 1)))(model)
        optimizer.update(model, gradients)

    before = trees.flatten(nnx.state(model, nnx.Param))
    for _ in range(5):
        step(model, optimizer)
    after = trees.flatten(nnx.state(model, nnx.Param))
    for path, keep in mask.items():
        assert not np.asarray(after[path])[~keep].any()
    assert any((before[path] != after[path]).any() for path in mask)
