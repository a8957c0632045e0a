"""Our side of `benchmarks.convolution`: networks of ours, and a depthwise-separable one."""

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
from jax.sharding import PartitionSpec as P

from groundwork import architectures
from groundwork.architectures.cpu.convolution import available, conv_general_dilated
from groundwork.train import replicates
from groundwork.trees import Params
from msdnet import MSDNet

State = tuple[Params, Any, optax.OptState]  # params, batch statistics, the optimiser's state


class Separable(nn.Module):
    """A stem of 32 channels, then five depthwise-separable blocks to 256 channels."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def block(x: jax.Array, channels: int, size: int, **options: Any) -> jax.Array:
            conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
            x = conv(channels, (size, size), use_bias=False, **options)(x)
            return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))

        x = block(x, 32, 3)
        for channels, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
            groups = x.shape[-1]
            x = block(x, groups, 3, strides=strides, feature_group_count=groups)
            x = block(x, channels, 1)
        return nn.Dense(10)(x.mean((1, 2)))


def build(network: str) -> nn.Module:
    if network == "separable":
        return Separable()
    if network == "msdnet":
        return MSDNet(10, blocks=5, base=1, step=1, step_mode="lin_grow")
    settings = {"dropout": 0.0} if network == "mobilenet_v2_small" else {}
    return architectures.build({"name": network, **settings}, 10)


def make(network: str, batch: int, by: str, form: str) -> tuple[Callable[[str, int], None], Any]:
    """Returns (what, steps) → None, for `train` and `infer`; and seconds to compile 100 steps.

    Args:
      network: `separable`, `msdnet`, or a name in `architectures`.
      batch: images of 32×32×3.
      by: `onednn` or `xla`.
      form: `scan` (all steps in one call) or `calls` (one step per call).
    """
    os.environ["ARCHITECTURES_CPU_CONVOLUTION"] = by
    assert available() == (by == "onednn"), "oneDNN is not built: make cpu"
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(batch, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, batch))
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])  # BatchNorm averages over it
    model = build(network)
    optimizer = optax.sgd(0.01, momentum=0.9)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    params, stats = variables["params"], variables.get("batch_stats", {})
    state: State = (params, stats, optimizer.init(params))
    step = functools.partial(train_step, model, optimizer)

    def compiled(function: Callable[..., State]) -> Any:
        return replicates.sharded(mesh, function, (P(), P("data"), P("data")), P())

    def scan(length: int, state: State, images: jax.Array, labels: jax.Array) -> State:
        def next_state(state: State, _: None) -> tuple[State, None]:
            return step(state, images, labels), None

        return jax.lax.scan(next_state, state, length=length)[0]

    one, inference = compiled(step), jax.jit(functools.partial(infer, model))
    several = functools.cache(lambda steps: compiled(functools.partial(scan, steps)))
    seconds = None
    if form == "scan":
        begun = time.perf_counter()
        several(100).lower(state, images, labels).compile()
        seconds = time.perf_counter() - begun

    def run(what: str, steps: int) -> None:
        nonlocal state
        if what == "infer":
            for _ in range(steps):
                logits = inference(state, images)
            jax.block_until_ready(logits)
        elif form == "scan":
            state = jax.block_until_ready(several(steps)(state, images, labels))
        else:
            for _ in range(steps):
                state = one(state, images, labels)
            jax.block_until_ready(state)

    return run, seconds


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    state: State,
    images: jax.Array,
    labels: jax.Array,
) -> State:
    """Returns the state after one step on one device's share of the batch."""
    params, stats, opt_state = state

    def loss_of(params: Params) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": stats}
        output, new = model.apply(variables, images, True, mutable=["batch_stats"])
        exits = output if isinstance(output, list) else [output]
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        loss = sum(cross_entropy(logits, labels).mean() for logits in exits)
        return jax.lax.pmean(loss, "data"), new

    grads, new = jax.grad(loss_of, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), new.get("batch_stats", {}), opt_state


def infer(model: nn.Module, state: State, images: jax.Array) -> Any:
    """Returns the logits of a forward pass, without training."""
    return model.apply({"params": state[0], "batch_stats": state[1]}, images, False)
