"""Small networks in Linen, NNX and plain functions; their answers by numpy."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

EPSILON = 1e-3
SHAPE = (4, 4, 3)


def images(examples=2):
    return np.random.default_rng(1).normal(size=(examples, *SHAPE)).astype("f4")


def norm(x, name, **options):
    return nn.BatchNorm(True, epsilon=EPSILON, name=name, **options)(x)


class Net(nn.Module):
    """A convolution, a depthwise one and a dense layer, each followed by BatchNorm."""

    relu: str = "relu"

    @nn.compact
    def __call__(self, x, train=False):
        act = getattr(nn, self.relu)
        x = act(norm(nn.Conv(6, (3, 3), name="conv")(x), "conv_bn"))
        x = act(norm(nn.Conv(6, (3, 3), feature_group_count=6, name="depth")(x), "depth_bn"))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = act(norm(nn.Dense(5, use_bias=False, name="dense")(x.reshape(len(x), -1)), "dense_bn"))
        return nn.Dense(4, name="output")(x)


def drawn(model, seed=0):
    """Variables drawn by numpy, variances positive."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images())
    return drawn_like(shapes, rng)


def drawn_like(shapes, rng):
    def one(leaf):
        if len(leaf.shape) == 1:
            return rng.uniform(0.3, 2, leaf.shape).astype("f4")
        return (rng.normal(size=leaf.shape) * rng.uniform(0.2, 3, leaf.shape[-1])).astype("f4")

    return jax.tree.map(one, shapes)


def net(variables, x):
    """`Net` in numpy, float64, and the values after each BatchNorm."""
    params, stats = variables["params"], variables["batch_stats"]
    x, seen = np.asarray(x, np.float64), {}
    for name in ("conv", "depth", "dense"):
        layer = params[name]
        if name == "dense":
            pooled = x.reshape(len(x), 2, 2, 2, 2, 6).max((2, 4))
            x = pooled.reshape(len(x), -1) @ layer["kernel"]
        else:
            x = convolved(x, layer["kernel"], 6 if name == "depth" else 1) + layer["bias"]
        bn, stat = params[f"{name}_bn"], stats[f"{name}_bn"]
        x = bn["scale"] * (x - stat["mean"]) / np.sqrt(stat["var"] + EPSILON) + bn["bias"]
        seen[f"{name}_bn"] = x
        x = np.maximum(x, 0)
    x = x @ params["output"]["kernel"] + params["output"]["bias"]
    return x, seen


def convolved(x, kernel, groups):
    """A 3×3 convolution with zeros around, entry by entry of the window."""
    kernel = np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    out = 0
    for i in range(3):
        for j in range(3):
            part = padded[:, i : i + height, j : j + width]
            out = out + (part * kernel[i, j, 0] if groups > 1 else part @ kernel[i, j])
    return out


class Left(nn.Module):
    """BatchNorms that nothing can take in, and one without scale and bias that a layer can."""

    @nn.compact
    def __call__(self, x, train=False):
        x = norm(x, "first")
        y = nn.Conv(6, (1, 1), name="twice")(x)
        y = nn.relu(norm(y, "of_twice")) + y
        y = norm(y, "before")
        z = nn.Conv(4, (1, 1), use_bias=False, name="plain")(y)
        return norm(z, "bare", use_scale=False, use_bias=False).mean((1, 2))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(6, rngs=rngs)
        self.two = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.two(nnx.relu(self.bn(self.one(x))).mean((1, 2)))


def plain(variables, x):
    """Channels first, and a product from the left; no layer has a usual name."""
    x = jnp.transpose(x, (0, 3, 1, 2))
    x = lax.conv_general_dilated(x, variables["a"], (1, 1), "SAME")
    x = (x + variables["b"][None, :, None, None]) * variables["c"][None, :, None, None]
    x = jnp.where(x > 0, x, 0.1 * x).sum((2, 3))
    return variables["d"] @ x.T + variables["e"][:, None]


def plain_variables():
    rng = np.random.default_rng(4)
    shapes = {"a": (6, 3, 3, 3), "b": (6,), "c": (6,), "d": (4, 6), "e": (4,)}
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


class Single(eqx.Module):
    """A network of one image, channels first, with a scale after a convolution; see `batched`."""

    one: eqx.nn.Conv2d
    two: eqx.nn.Conv2d
    last: eqx.nn.Linear
    scale: jax.Array

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 3)
        self.one = eqx.nn.Conv2d(3, 6, 3, key=keys[0])
        self.two = eqx.nn.Conv2d(6, 4, 1, groups=2, key=keys[1])
        self.last = eqx.nn.Linear(4, 5, key=keys[2])
        self.scale = jnp.arange(1, 7.0)

    def __call__(self, x):
        x = jax.nn.relu(self.one(x) * self.scale[:, None, None])
        return self.last(jax.nn.relu(self.two(x)).mean((1, 2)))


def batched(module, x):
    """Axes are moved between products and biases."""
    return jax.vmap(module)(jnp.transpose(x, (0, 3, 1, 2)))
