"""A pruned network for `benchmarks.sparse`: by `predictor`, by XLA, or on an engine."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.predictions_jax import on_engine
from groundwork import architectures
from groundwork.traced.predictions import predictor
from pruning import masks, patterns

EXAMPLES = {"lenet_300_100": (28, 28, 1), "vgg_11": (32, 32, 3)}
IN_A_LOOP = {"lenet_300_100": 100, "vgg_11": 8}  # predictions of one compiled loop


def pruned(network: str, density: float, pattern: str) -> tuple[Any, Any]:
    """Returns a network that was initialised and pruned, and its variables.

    Args:
      network: a key of `EXAMPLES`.
      density: of each kernel.
      pattern: `any`: the largest weights of each kernel; `1x4`: the blocks of four outputs with the
        largest sums; `2:4`: the two largest of four inputs, whatever the density. Kernels that have
        no such neighbours keep the largest weights.
    """
    model = architectures.build({"name": network}, 10)
    example = np.zeros((1, *EXAMPLES[network]), np.float32)
    variables = jax.jit(lambda key: model.init(key, example, train=False))(jax.random.key(0))

    def mask(leaf: Any) -> Any:
        scores = jnp.abs(leaf)
        if pattern == "1x4" and leaf.shape[-1] % 4 == 0:
            return patterns.blocks(scores, (1, 4), density)
        if pattern == "2:4" and leaf.shape[-2] % 4 == 0:
            return patterns.n_m(scores, 2, 4)
        kept = round(density * leaf.size)
        return (jnp.argsort(jnp.argsort(-scores.ravel())) < kept).reshape(leaf.shape)

    kernels = {path: mask(leaf) for path, leaf in masks.flatten(variables["params"]).items()}
    return model, {**variables, "params": masks.apply(kernels, variables["params"])}


def make(
    network: str, batch: int, by: str, density: str, pattern: str
) -> tuple[Callable[[str, int], None], Any]:
    """Returns (what, steps) → None, for `call` and `loop`; and None.

    A step of `loop` is one prediction among those of a compiled loop; engines have none, and call.

    Args:
      network: a key of `EXAMPLES`.
      batch: examples.
      by: `sparse` or `dense`, by `predictor`; `jit`; or an engine of `deploy`.
      density: see `pruned`.
      pattern: see `pruned`.
    """
    model, variables = pruned(network, float(density), pattern)
    size = (IN_A_LOOP[network], batch, *EXAMPLES[network])
    inputs = np.random.default_rng(0).normal(size=size).astype(np.float32)
    if by not in ("sparse", "dense", "jit"):
        return on_engine(model, variables, inputs[0], by), None

    def apply(variables: Any, inputs: Any) -> Any:
        return model.apply(variables, inputs, train=False)

    weights, once = variables, apply
    if by != "jit":
        made = predictor(apply, variables, inputs[0], sparse=by == "sparse")
        weights, once = made.prepare(variables), made.apply
    call = jax.jit(once)
    loop = jax.jit(lambda weights, many: lax.map(lambda one: once(weights, one), many))
    many, first = jnp.asarray(inputs), jnp.asarray(inputs[0])

    def run(what: str, steps: int) -> None:
        outputs = None
        for _ in range(steps if what == "call" else steps // len(many)):
            outputs = call(weights, first) if what == "call" else loop(weights, many)
        jax.block_until_ready(outputs)

    return run, None
