"""What an exit costs: parameters from shapes, multiply-adds from the trace, measured seconds."""

import functools
import statistics
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import architectures, trees
from groundwork.traced.macs import multiply_adds
from groundwork.trees import Shapes, Variables, count
from msdnet.exit_network import Features


class Cost(NamedTuple):
    """The cost of one exit; counts are for one image."""

    params: int  # of all blocks up to this exit, and of its classifier
    macs: int  # multiply-adds of the same
    macs_cumulative: int  # of all earlier classifiers too: what a prediction at this exit costs


def costs(model: nn.Module, example: Any) -> list[Cost]:
    """Returns the cost of each exit, in the order of exits.

    Multiply-adds are those of convolutions and linear layers.

    Args:
      model: a network with exits: `MSDNet`, one of `controls`, or one from `heads.attach`.
      example: height, width, channels of an image; or shapes and dtypes of one example's inputs
        [1, …], such as tokens.

    Raises:
      UserError: the network cannot take such examples.

    Example:
        >>> import flax.linen as nn
        >>> from msdnet import costs, heads
        >>> network = nn.Sequential([nn.Dense(8), nn.Dense(4), nn.Dense(2)])
        >>> model = heads.attach(network, ["layers_0"], classes=2)
        >>> for exit in costs(model, jax.ShapeDtypeStruct((1, 4), jnp.float32)):
        ...     print(exit)  # 4·8 + 8·2 multiply-adds; then 4·8 + 8·4 + 4·2, and the head's 8·2
        Cost(params=58, macs=48, macs_cumulative=48)
        Cost(params=86, macs=72, macs_cumulative=88)
    """
    return list(_costs(model, *_flat(example)))


@functools.lru_cache(maxsize=64)
def _costs(model: nn.Module, structure: Any, leaves: tuple[Any, ...]) -> tuple[Cost, ...]:
    features: Features = jax.tree.unflatten(structure, leaves)
    variables = architectures.shapes(model, features)
    exit_costs, params, macs, heads = [], 0, 0, 0
    for k, (trunk, head) in enumerate(model.parameters_of(variables, features)):
        features, advance, classify = _traced(model, variables, k, features)
        params, macs, heads = params + trunk, macs + advance, heads + classify
        exit_costs.append(Cost(params + head, macs + classify, macs + heads))
    return tuple(exit_costs)


def parameters(model: nn.Module, example: Any) -> int:
    """Returns the number of parameters of the whole network, all classifiers included.

    Args:
      model: see `costs`.
      example: see `costs`.

    Example:
        >>> import flax.linen as nn
        >>> from msdnet import heads, parameters
        >>> model = heads.attach(nn.Sequential([nn.Dense(8), nn.Dense(2)]), ["layers_0"], classes=2)
        >>> parameters(model, jax.ShapeDtypeStruct((1, 4), jnp.float32))  # 5·8, and twice 9·2
        76
    """
    return count(shapes(model, example)["params"])


def shapes(model: nn.Module, example: Any) -> Shapes:
    """Returns the shapes of a network's variables.

    Args:
      model: see `costs`.
      example: see `costs`.

    Raises:
      UserError: the network cannot take such examples.
    """
    structure, leaves = _flat(example)
    return architectures.shapes(model, jax.tree.unflatten(structure, leaves))


def _flat(example: Any) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
    """Returns structure and shapes of an example, which can be hashed."""
    given = tuple(example) if isinstance(example, list) else example
    leaves, structure = jax.tree.flatten(trees.example(given))
    return structure, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)


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
    model: nn.Module, variables: Variables, images: Any, repeats: int = 5
) -> list[float]:
    """Returns the measured milliseconds per image of a prediction at each exit.

    A prediction takes all blocks and classifiers up to its exit. Blocks are compiled and timed one
    by one on this process's default device; each counts with its median over `repeats`.

    Args:
      model: a network with exits.
      variables: of one replicate.
      images: network inputs [B, H, W, C], or any other arrays [B, …].
      repeats: runs of each block.
    """
    features: Features = jax.tree.map(jnp.asarray, images)
    number = len(jax.tree.leaves(features)[0])
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
        per_image.append(1e3 * total / number)
        features = after
    return per_image
