"""Our side of `benchmarks.convolution`: three small networks whose convolutions go through ours."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from architectures.convolution import available, conv_general_dilated

Conv = functools.partial(
    nn.Conv, use_bias=False, padding="SAME", conv_general_dilated=conv_general_dilated
)


def norm(x: jax.Array, train: bool) -> jax.Array:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


class ResNet20(nn.Module):
    """3 stages of 3 blocks, 16, 32, 64 channels; 1×1 convolutions where a shortcut changes."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(norm(Conv(16, (3, 3))(x), train))
        for stage, channels in enumerate((16, 32, 64)):
            for block in range(3):
                stride = 2 if stage and not block else 1
                y = nn.relu(norm(Conv(channels, (3, 3), stride)(x), train))
                y = norm(Conv(channels, (3, 3))(y), train)
                if stride == 2:
                    x = norm(Conv(channels, (1, 1), stride)(x), train)
                x = nn.relu(x + y)
        return nn.Dense(10)(x.mean((1, 2)))


class Conv4(nn.Module):
    """64, 64, pool, 128, 128, pool, 256, 256, 10."""

    @nn.compact
    def __call__(self, x, train):
        for channels in (64, 128):
            x = nn.relu(Conv(channels, (3, 3), use_bias=True)(x))
            x = nn.relu(Conv(channels, (3, 3), use_bias=True)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for units in (256, 256):
            x = nn.relu(nn.Dense(units)(x))
        return nn.Dense(10)(x)


class Separable(nn.Module):
    """A stem of 32 channels, then five depthwise-separable blocks to 256 channels."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(norm(Conv(32, (3, 3))(x), train))
        for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
            groups = x.shape[-1]
            depthwise = Conv(groups, (3, 3), stride, feature_group_count=groups)
            x = nn.relu(norm(depthwise(x), train))
            x = nn.relu(norm(Conv(channels, (1, 1))(x), train))
        return nn.Dense(10)(x.mean((1, 2)))


NETWORKS = {"resnet20": ResNet20, "conv4": Conv4, "separable": Separable}


def make(network: str, batch: int, by: str, form: str) -> tuple[Callable[[str, int], None], Any]:
    """(what, steps) → None, for `train` and `infer`; and seconds to compile 100 steps' scan.

    Args:
      network: one of `NETWORKS`.
      batch: images of 32×32×3.
      by: `onednn` or `xla`.
      form: `scan` (all steps in one call) or `calls` (a call a step).
    """
    os.environ["ARCHITECTURES_CPU_CONVOLUTION"] = by
    assert available() == (by == "onednn"), "oneDNN is not built: make cpu"
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(batch, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, batch))
    model = NETWORKS[network]()
    optimizer = optax.sgd(0.01, momentum=0.9)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    params, stats = variables["params"], variables.get("batch_stats", {})
    state = (params, stats, optimizer.init(params))

    def loss_of(params, stats):
        logits, new = model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

    def step(state):
        params, stats, opt_state = state
        grads, new = jax.grad(loss_of, has_aux=True)(params, stats)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), new.get("batch_stats", {}), opt_state

    def loop(state, steps):
        return jax.lax.fori_loop(0, steps, lambda _, state: step(state), state)

    def infer(state):
        variables = {"params": state[0], "batch_stats": state[1]}
        return model.apply(variables, images, train=False)

    one, many, inference = jax.jit(step), jax.jit(loop), jax.jit(infer)
    seconds = None
    if form == "scan":
        begun = time.perf_counter()
        whole = jax.jit(lambda s: jax.lax.scan(lambda s, _: (step(s), None), s, length=100)[0])
        whole.lower(state).compile()
        seconds = time.perf_counter() - begun

    def run(what: str, steps: int) -> None:
        nonlocal state
        if what == "infer":
            for _ in range(steps):
                found = inference(state)
            found.block_until_ready()
        elif form == "scan":
            state = jax.block_until_ready(many(state, steps))
        else:
            for _ in range(steps):
                state = one(state)
            jax.block_until_ready(state)

    return run, seconds
