"""What an exit costs: parameters and multiply-adds, from shapes and the traced computation."""

import functools
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures
from groundwork.traced.macs import multiply_adds


class Cost(NamedTuple):
    """Of one exit; counts for one image."""

    params: int  # blocks so far and this classifier
    macs: int  # multiply-adds of the same
    macs_cumulative: int  # with all earlier classifiers: what a prediction at this exit costs


def costs(model: nn.Module, image_shape: Sequence[int]) -> list[Cost]:
    """The cost of each exit, the first one first.

    Args:
      model: a network with exits: `MSDNet`, or one of `controls`.
      image_shape: height, width, channels.

    Returns:
      One `Cost` an exit. Multiply-adds are those of convolutions and linear layers.

    Raises:
      UserError: the network cannot take such images.
    """
    return list(_costs(model, tuple(image_shape)))


@functools.lru_cache(maxsize=64)
def _costs(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[Cost, ...]:
    variables = architectures.shapes(model, image_shape)
    features: Any = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found, params, macs, heads = [], 0, 0, 0
    for k in range(model.exits):
        head, trunk = _parameters_of(variables, k)
        features, advance, classify = _traced(model, variables, k, features)
        params, macs, heads = params + trunk, macs + advance, heads + classify
        found.append(Cost(params + head, macs + classify, macs + heads))
    return tuple(found)


def parameters(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Parameters of the whole network, all classifiers included."""
    return architectures.count(architectures.shapes(model, image_shape)["params"])


def _parameters_of(variables: Any, k: int) -> tuple[int, int]:
    """Parameters of classifier k and of block k."""
    params = variables["params"]
    head, trunk = (params.get(f"{part}_{k}", {}) for part in ("classifier", "backbone"))
    return architectures.count(head), architectures.count(trunk)


def _traced(model: nn.Module, variables: Any, k: int, features: Any) -> tuple[Any, int, int]:
    """Features after block k, multiply-adds of the block and of its classifier."""

    def advance(variables, features):
        return model.apply(variables, k, features, method="advance")

    def classify(variables, features):
        return model.apply(variables, k, features, method="classify")

    after = jax.eval_shape(advance, variables, features)
    macs = multiply_adds(advance, variables, features), multiply_adds(classify, variables, after)
    return after, *macs


def milliseconds(
    model: nn.Module, variables: Any, images: np.ndarray, repeats: int = 5
) -> list[float]:
    """Measured wall-clock time an image of a prediction at each exit, all earlier ones included.

    Blocks are compiled and timed one by one on this process's default device; each counts with its
    median over `repeats`.

    Args:
      model: a network with exits.
      variables: of one replicate.
      images: network inputs [B, H, W, C].
      repeats: runs of each block.
    """
    features: Any = jnp.asarray(images)
    found, total = [], 0.0
    for k in range(model.exits):
        block = jax.jit(functools.partial(model.apply, method="block"), static_argnums=1)
        (after, _) = jax.block_until_ready(block(variables, k, features))
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            jax.block_until_ready(block(variables, k, features))
            seconds.append(time.perf_counter() - begun)
        total += statistics.median(seconds)
        found.append(1e3 * total / len(images))
        features = after
    return found
