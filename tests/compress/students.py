"""Small students and teachers, by JAX and by numpy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 5


class Dense(nn.Module):
    units: int = 7

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        x = nn.relu(nn.Dense(self.units, name="one")(x))
        x = nn.relu(nn.Dense(self.units, name="two")(x))
        return nn.Dense(CLASSES, name="output")(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        x = nn.BatchNorm(not train, axis_name="data" if train else None, name="bn")(x)
        return nn.Dense(CLASSES, name="output")(x)


def dense(params, x):
    """`Dense` in numpy, float64."""
    x = x.reshape(len(x), -1)
    for name in ("one", "two"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def normed(variables, x):
    """`Normed` in numpy, in evaluation."""
    params, stats = variables["params"], variables["batch_stats"]["bn"]
    x = (x.reshape(len(x), -1) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    x = x * params["bn"]["scale"] + params["bn"]["bias"]
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def drawn(model, *leading, shape=(1, 3, 3, 1), seed=0):
    """Variables from numpy, with leading axes."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree.map(
        lambda leaf: (
            rng.uniform(0.2, 1.5, (*leading, *leaf.shape)).astype("f4")
            if leaf.ndim == 1
            else rng.normal(size=(*leading, *leaf.shape)).astype("f4")
        ),
        shapes,
    )


@functools.cache
def _compiled(loss_fn):
    def loss(params, others, batch):
        return loss_fn(jax.random.key(0), {**others, "params": params}, batch)

    function = jax.value_and_grad(loss, has_aux=True)
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def value_and_gradient(loss_fn, variables, batch):
    """Loss, what is counted beside it, and gradient; compiled once for each loss function."""
    others = {name: tree for name, tree in variables.items() if name != "params"}
    (value, aux), gradient = _compiled(loss_fn)(variables["params"], others, batch)
    return value, aux, gradient


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
