"""What an exit costs: parameters from shapes, multiply-adds from the trace, measured seconds."""

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
from groundwork.trees import Shapes, Variables, count
from msdnet.exit_network import Features


class Cost(NamedTuple):
    """The cost of one exit; counts are for one image."""

    params: int  # of all blocks up to this exit, and of its classifier
    macs: int  # multiply-adds of the same
    macs_cumulative: int  # of all earlier classifiers too: what a prediction at this exit costs


def costs(model: nn.Module, image_shape: Sequence[int]) -> list[Cost]:
    """Returns the cost of each exit, in the order of exits.

    Multiply-adds are those of convolutions and linear layers.

    Args:
      model: a network with exits: `MSDNet`, or one of `controls`.
      image_shape: height, width, channels.

    Raises:
      UserError: the network cannot take such images.
    """
    return list(_costs(model, tuple(image_shape)))


@functools.lru_cache(maxsize=64)
def _costs(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[Cost, ...]:
    variables = shapes(model, image_shape)
    features: Features = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    exit_costs, params, macs, heads = [], 0, 0, 0
    for k, (trunk, head) in enumerate(model.parameters_of(variables, image_shape)):
        features, advance, classify = _traced(model, variables, k, features)
        params, macs, heads = params + trunk, macs + advance, heads + classify
        exit_costs.append(Cost(params + head, macs + classify, macs + heads))
    return tuple(exit_costs)


def parameters(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Returns the number of parameters of the whole network, all classifiers included."""
    return count(shapes(model, tuple(image_shape))["params"])


@functools.lru_cache(maxsize=64)
def shapes(model: nn.Module, image_shape: tuple[int, ...]) -> Shapes:
    """Returns the shapes of a network's variables.

    Raises:
      UserError: the network cannot take such images.
    """
    return architectures.shapes(model, image_shape)


def _traced(
    model: nn.Module, variables: Shapes, k: int, features: Features
) -> tuple[Features, int, int]:
    """Returns the features after block k, and multiply-adds of the block and of its classifier."""

    @jax.jit  # which traces once for shapes and multiply-adds
    def advance(variables: Variables, features: Features) -> Features:
        return model.apply(variables, k, features, method="advance")

    def classify(variables: Variables, features: Features) -> Any:
        return model.apply(variables, k, features, method="classify")

    after = jax.eval_shape(advance, variables, features)
    macs = multiply_adds(advance, variables, features), multiply_adds(classify, variables, after)
    return after, *macs


def milliseconds(
    model: nn.Module, variables: Variables, images: np.ndarray, repeats: int = 5
) -> list[float]:
    """Returns the measured milliseconds per image of a prediction at each exit.

    A prediction takes all blocks and classifiers up to its exit. Blocks are compiled and timed one
    by one on this process's default device; each counts with its median over `repeats`.

    Args:
      model: a network with exits.
      variables: of one replicate.
      images: network inputs [B, H, W, C].
      repeats: runs of each block.
    """
    features: Features = jnp.asarray(images)
    per_image, total = [], 0.0
    for k in range(model.exits):
        block = jax.jit(functools.partial(model.apply, method="block"), static_argnums=1)
        (after, _) = jax.block_until_ready(block(variables, k, features))
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            jax.block_until_ready(block(variables, k, features))
            seconds.append(time.perf_counter() - begun)
        total += statistics.median(seconds)
        per_image.append(1e3 * total / len(images))
        features = after
    return per_image
