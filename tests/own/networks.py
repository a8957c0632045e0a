"""Tiny members of the families that people bring, each written as its library's examples are."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KEY = jax.random.key(0)
CLASSES, BATCH, LENGTH, TOKENS = 5, 4, 6, 11


class Brought(NamedTuple):
    """A network as its author calls it."""

    model: Any  # a module, or a function (variables, inputs, …) → outputs
    variables: Any
    inputs: Any  # of a batch
    labels: Any
    macs: int  # of the batch, by hand
    flags: dict[str, dict[str, Any]]  # keywords in training, and in evaluation
    prunable: Callable[[str], bool] | None = None  # None: the leaves named `kernel`


def images(size=8, channels=1):
    draw = np.random.default_rng(0)
    return jnp.asarray(draw.normal(size=(BATCH, size, size, channels)), jnp.float32)


def drawn(shapes):
    """Variables drawn by numpy, which compiles nothing; nothing is zero, and variances are not."""
    draw = np.random.default_rng(2)

    def one(leaf):
        if len(leaf.shape) < 2:
            return jnp.asarray(draw.uniform(0.5, 1, leaf.shape), leaf.dtype)
        scale = np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(draw.normal(size=leaf.shape) / scale, leaf.dtype)

    return jax.tree.map(one, shapes)


def made(model, x, **flags):
    return drawn(jax.eval_shape(lambda key: model.init(key, x, **flags), KEY))


LABELS = jnp.asarray([0, 3, 1, 4], jnp.int32)
TEXT = jnp.asarray(np.random.default_rng(1).integers(0, TOKENS, (BATCH, LENGTH)), jnp.int32)
NO_FLAGS = {"train": {}, "eval": {}}
TRAIN = {"train": {"train": True}, "eval": {"train": False}}
DETERMINISTIC = {"train": {"deterministic": False}, "eval": {"deterministic": True}}


class CNN(nn.Module):
    """As in flax's MNIST example."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(features=4, kernel_size=(3, 3))(x))
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(features=6, kernel_size=(3, 3))(x))
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(features=16)(x.reshape((x.shape[0], -1))))
        return nn.Dense(features=CLASSES)(x)


def mnist_cnn():
    model, x = CNN(), images()
    macs = 8 * 8 * 9 * 4 + 4 * 4 * 9 * 4 * 6 + 24 * 16 + 16 * CLASSES
    return Brought(model, made(model, x), x, LABELS, BATCH * macs, NO_FLAGS)


class Bottleneck(nn.Module):
    filters: int
    conv: Any
    norm: Any
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        residual = x
        y = nn.relu(self.norm()(self.conv(self.filters, (1, 1))(x)))
        y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), self.strides)(y)))
        y = self.norm(scale_init=nn.initializers.zeros)(self.conv(self.filters * 4, (1, 1))(y))
        if residual.shape != y.shape:
            residual = self.conv(self.filters * 4, (1, 1), self.strides, name="conv_proj")(residual)
            residual = self.norm(name="norm_proj")(residual)
        return nn.relu(residual + y)


class ResNet(nn.Module):
    """As in flax's ImageNet example: bottlenecks, and a last BatchNorm that starts at zero."""

    @nn.compact
    def __call__(self, x, train=True):
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = conv(2, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name="conv_init")(x)
        x = nn.max_pool(nn.relu(norm(name="bn_init")(x)), (3, 3), strides=(2, 2), padding="SAME")
        for i in range(2):
            strides = (2, 2) if i else (1, 1)
            x = Bottleneck(2 * 2**i, conv=conv, norm=norm, strides=strides)(x)
        return nn.Dense(CLASSES)(jnp.mean(x, axis=(1, 2)))


def resnet():
    model, x = ResNet(), images(16, 3)
    first = 8 * 8 * 49 * 3 * 2
    one = 16 * (2 * 2 + 9 * 2 * 2 + 2 * 8 + 2 * 8)
    two = 16 * 8 * 4 + 4 * (9 * 4 * 4 + 4 * 16 + 8 * 16)
    macs = first + one + two + 16 * CLASSES
    return Brought(model, made(model, x), x, LABELS, BATCH * macs, TRAIN)


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, deterministic):
        x = nn.LayerNorm()(inputs)
        x = nn.MultiHeadDotProductAttention(
            num_heads=2, deterministic=deterministic, dropout_rate=0.1
        )(x, x)
        x = inputs + nn.Dropout(0.1)(x, deterministic=deterministic)
        y = nn.gelu(nn.Dense(12)(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(nn.Dropout(0.1)(y, deterministic=deterministic))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, blocks of an encoder."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(8, (4, 4), strides=(4, 4), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, 8)
        token = self.param("cls", nn.initializers.normal(0.1), (1, 1, 8))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("pos_embedding", nn.initializers.normal(0.1), (1, x.shape[1], 8))
        for _ in range(2):
            x = EncoderBlock()(x, deterministic=not train)
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm()(x)[:, 0])


def vit():
    model, x = VisionTransformer(), images()
    block = 5 * 4 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 12
    macs = 4 * 16 * 8 + 2 * block + 8 * CLASSES
    variables = made(model, x, train=False)
    return Brought(model, variables, x, LABELS, BATCH * macs, TRAIN)


class MixerBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        y = nn.Dense(4, name="tokens_out")(nn.gelu(nn.Dense(6, name="tokens_in")(y)))
        x = x + jnp.swapaxes(y, 1, 2)
        y = nn.gelu(nn.Dense(10, name="channels_in")(nn.LayerNorm()(x)))
        return x + nn.Dense(8, name="channels_out")(y)


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=(4, 4), name="stem")(x).reshape(len(x), 4, 8)
        for _ in range(2):
            x = MixerBlock()(x)
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm()(x).mean(1))


def mixer():
    model, x = Mixer(), images()
    macs = 4 * 16 * 8 + 2 * (2 * 8 * 4 * 6 + 2 * 4 * 8 * 10) + 8 * CLASSES
    return Brought(model, made(model, x), x, LABELS, BATCH * macs, NO_FLAGS)


class DecoderBlock(nn.Module):
    deterministic: bool

    @nn.compact
    def __call__(self, x, mask):
        y = nn.LayerNorm()(x)
        attend = nn.MultiHeadDotProductAttention(2, deterministic=self.deterministic)
        y = attend(y, mask=mask)
        x = x + y
        return x + nn.Dense(8)(nn.relu(nn.Dense(12)(nn.LayerNorm()(x)))), None


class LanguageModel(nn.Module):
    """Blocks that are rematerialised and scanned over, as in flax's and others' examples."""

    @nn.compact
    def __call__(self, tokens, deterministic=True):
        x = nn.Embed(TOKENS, 8)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.1), (LENGTH, 8))[None]
        blocks = nn.scan(
            nn.remat(DecoderBlock, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=3,
        )
        x, _ = blocks(deterministic, name="blocks")(x, nn.make_causal_mask(tokens))
        return nn.Dense(TOKENS, name="logits")(nn.LayerNorm()(x))


def language_model():
    model, x = LanguageModel(), TEXT
    block = LENGTH * (4 * 8 * 8 + 2 * 8 * 12) + 2 * LENGTH * LENGTH * 8
    macs = 3 * block + LENGTH * 8 * TOKENS
    variables = made(model, x)
    return Brought(model, variables, x, jnp.roll(x, -1, 1), BATCH * macs, DETERMINISTIC)


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(TOKENS, 6)(tokens)
        return nn.Dense(CLASSES)(nn.RNN(nn.OptimizedLSTMCell(8))(x)[:, -1])


def lstm():
    model, x = Recurrent(), TEXT
    macs = LENGTH * (6 * 32 + 8 * 32) + 8 * CLASSES
    return Brought(model, made(model, x), x, LABELS, BATCH * macs, NO_FLAGS)


class UNet(nn.Module):
    """Down by a stride, up by a transposed convolution, beside it what was there before."""

    @nn.compact
    def __call__(self, x):
        one = nn.silu(nn.GroupNorm(2)(nn.Conv(4, (3, 3), name="in")(x)))
        two = nn.silu(nn.GroupNorm(2)(nn.Conv(8, (3, 3), (2, 2), name="down")(one)))
        up = nn.ConvTranspose(4, (2, 2), (2, 2), name="up")(two)
        both = jnp.concatenate([one, up], -1)
        return nn.Conv(CLASSES, (3, 3), name="out")(both)


def unet():
    model, x = UNet(), images()
    macs = 64 * 9 * 4 + 16 * 9 * 4 * 8 + 16 * 4 * 8 * 4 + 64 * 9 * 8 * CLASSES
    labels = (jnp.abs(x[..., 0]) * 2).astype(jnp.int32) % CLASSES
    return Brought(model, made(model, x), x, labels, BATCH * macs, NO_FLAGS)


class NnxCNN(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.linear = nnx.Linear(4 * 16, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = nnx.avg_pool(x, (2, 2), (2, 2))
        return self.linear(x.reshape(len(x), -1))


def _of_state(kind):
    """The state of parameters of an NNX module in evaluation, and the function of it."""
    module = nnx.eval_shape(lambda: kind(nnx.Rngs(0)))
    module.eval()
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    rest = drawn(rest)
    return drawn(params), lambda params, x: nnx.merge(graph, params, rest)(x)


def nnx_cnn():
    params, apply = _of_state(NnxCNN)
    macs = 64 * 9 * 4 + 64 * CLASSES
    return Brought(apply, params, images(), LABELS, BATCH * macs, NO_FLAGS)


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(TOKENS, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
        self.up = nnx.Linear(8, 12, rngs=rngs)
        self.down = nnx.Linear(12, 8, rngs=rngs)
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(self.norm(x))
        x = x + self.down(nnx.gelu(self.up(x)))
        return self.head(x.mean(1))


def nnx_transformer():
    params, apply = _of_state(NnxTransformer)
    macs = LENGTH * (4 * 8 * 8 + 2 * 8 * 12) + 2 * LENGTH * LENGTH * 8 + 8 * CLASSES
    return Brought(apply, params, TEXT, LABELS, BATCH * macs, NO_FLAGS)


def equinox_mlp():
    model = eqx.nn.MLP(8, CLASSES, 7, 2, key=KEY)
    arrays, static = eqx.partition(model, eqx.is_array)
    macs = 8 * 7 + 7 * 7 + 7 * CLASSES
    return Brought(
        lambda arrays, x: jax.vmap(eqx.combine(arrays, static))(x),
        arrays,
        images()[:, 0, :, 0],
        LABELS,
        BATCH * macs,
        NO_FLAGS,
        lambda path: path.endswith("weight"),
    )


NETWORKS = {
    "MNIST CNN (Linen)": mnist_cnn,
    "ResNet-50 (Linen)": resnet,
    "ViT (Linen)": vit,
    "MLP-Mixer (Linen)": mixer,
    "Transformer LM, scanned and rematerialised (Linen)": language_model,
    "LSTM (Linen)": lstm,
    "U-Net with transposed convolutions (Linen)": unet,
    "CNN (NNX)": nnx_cnn,
    "Transformer (NNX)": nnx_transformer,
    "MLP (Equinox)": equinox_mlp,
}
