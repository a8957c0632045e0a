"""Our side of `benchmarks.structured` and `benchmarks.structured_peers`: the networks."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures
from groundwork.architectures import layers

conv = functools.partial(layers.conv, bias=False, kernel_init=layers.he, dtype=jnp.float32)
norm = functools.partial(layers.batch_norm, train=False, dtype=jnp.float32)


class Projected(nn.Module):
    """ResNet-20 whose shortcuts are 1×1 convolutions where channels change."""

    base: int = 16  # channels of the first stage

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(norm("bn1")(conv(self.base, 3, padding=1, name="conv1")(x)))
        for stage, channels in enumerate((self.base, 2 * self.base, 4 * self.base)):
            for block in range(3):
                name, inputs = f"block{stage + 1}_{block + 1}", x
                strides = 2 if stage and not block else 1
                x = conv(channels, 3, strides=strides, padding=1, name=f"{name}_conv1")(x)
                x = nn.relu(norm(f"{name}_bn1")(x))
                x = norm(f"{name}_bn2")(conv(channels, 3, padding=1, name=f"{name}_conv2")(x))
                if strides > 1:
                    inputs = conv(channels, 1, strides=2, padding=0, name=f"{name}_shortcut")(
                        inputs
                    )
                    inputs = norm(f"{name}_bn3")(inputs)
                x = nn.relu(x + inputs)
        return nn.Dense(10, name="output")(x.mean((1, 2)))


class Mobile(nn.Module):
    """A stem, and inverted residual blocks with depthwise convolutions (MobileNet V2's)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(norm("bn")(conv(16, 3, strides=2, padding=1, name="stem")(x)))
        for block, (channels, strides) in enumerate(((16, 1), (24, 2), (24, 1), (32, 2), (32, 1))):
            inputs, name, wide = x, f"block{block}", 4 * x.shape[-1]
            x = nn.relu(norm(f"{name}_bn1")(conv(wide, 1, name=f"{name}_expand")(x)))
            depthwise = conv(
                wide, 3, strides=strides, padding=1, groups=wide, name=f"{name}_depthwise"
            )
            x = nn.relu(norm(f"{name}_bn2")(depthwise(x)))
            x = norm(f"{name}_bn3")(conv(channels, 1, name=f"{name}_project")(x))
            x = x + inputs if inputs.shape == x.shape else x
        return nn.Dense(10, name="output")(x.mean((1, 2)))


class Densely(nn.Module):
    """Two blocks in which each layer sees all earlier outputs, and a transition (DenseNet's)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = conv(16, 3, padding=1, name="stem")(x)
        for block in range(2):
            if block:
                x = conv(24, 1, name="transition")(nn.relu(norm("transition_bn")(x)))
                x = nn.avg_pool(x, (2, 2), (2, 2))
            for layer in range(3):
                name = f"block{block}_{layer}"
                y = conv(24, 1, name=f"{name}_conv1")(nn.relu(norm(f"{name}_bn1")(x)))
                y = conv(8, 3, padding=1, name=f"{name}_conv2")(nn.relu(norm(f"{name}_bn2")(y)))
                x = jnp.concatenate([x, y], -1)
        x = nn.relu(norm("bn")(x))
        return nn.Dense(10, name="output")(x.mean((1, 2)))


class Excited(nn.Module):
    """Residual blocks whose channels are scaled by what two dense layers make of their means."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(norm("bn")(conv(16, 3, strides=2, padding=1, name="stem")(x)))
        for block in range(2):
            name = f"block{block}"
            y = nn.relu(norm(f"{name}_bn1")(conv(32, 3, padding=1, name=f"{name}_conv1")(x)))
            gate = nn.relu(nn.Dense(8, name=f"{name}_squeeze")(y.mean((1, 2))))
            gate = nn.sigmoid(nn.Dense(32, name=f"{name}_excite")(gate))
            y = conv(16, 3, padding=1, name=f"{name}_conv2")(y * gate[:, None, None])
            x = nn.relu(x + norm(f"{name}_bn2")(y))
        return nn.Dense(10, name="output")(x.mean((1, 2)))


class Attentive(nn.Module):
    """A block of a vision transformer: 4 heads of 8, and a hidden layer of 64."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        dense, ln = nn.Dense, functools.partial(nn.LayerNorm, epsilon=1e-5)
        x = nn.Conv(32, (8, 8), (8, 8), "VALID", name="patches")(x)
        x = x.reshape(len(x), 16, -1)
        y = ln(name="ln1")(x)
        q, k, v = (dense(32, name=n)(y).reshape(*y.shape[:2], 4, 8) for n in "qkv")
        weights = nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(8))
        y = jnp.einsum("bhqk,bkhe->bqhe", weights, v)
        x = x + dense(32, name="out")(y.reshape(*y.shape[:2], -1))
        y = nn.gelu(dense(64, name="up")(ln(name="ln2")(x)), approximate=False)
        x = x + dense(32, name="down")(y)
        return dense(10, name="output")(ln(name="ln3")(x).mean(1))


class Transposed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(conv(16, 3, name="stem")(x))
        x = nn.relu(nn.ConvTranspose(8, (2, 2), (2, 2), use_bias=False, name="up")(x))
        x = nn.relu(conv(12, 3, name="last")(x))
        return nn.Dense(10, name="output")(x.mean((1, 2)))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dense(16, name="embed")(x.reshape(*x.shape[:2], -1))
        x = nn.RNN(nn.OptimizedLSTMCell(12), name="cell")(x)
        return nn.Dense(10, name="output")(x[:, -1])


class Shuffled(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(conv(16, 3, name="stem")(x))
        x = x.reshape(*x.shape[:3], 4, 4).swapaxes(3, 4).reshape(x.shape)
        x = nn.relu(conv(12, 3, name="last")(x))
        return nn.Dense(10, name="output")(x.mean((1, 2)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg_11": functools.partial(architectures.build, {"name": "vgg_11"}, 10),
    "resnet_20": Projected,
    "mobile": Mobile,
    "densely": Densely,
    "excited": Excited,
    "attentive": Attentive,
    "padded": functools.partial(architectures.build, {"name": "resnet_20"}, 10),
    "static": Attentive,
    "stream": Attentive,
    "transposed": Transposed,
    "recurrent": Recurrent,
    "shuffled": Shuffled,
}
