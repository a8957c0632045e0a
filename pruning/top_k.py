"""Gradient pruning (meProp): of a layer's output gradient, the largest entries alone go back."""

# F features of a layer's outputs

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from groundwork.errors import unknown
from groundwork.traced import override, reach
from groundwork.traced.products import Layer


def top_k_gradients(k: float, axes: int = 1) -> Callable[[jax.Array], jax.Array]:
    """Returns the identity on activations, behind which k entries of each gradient go back.

    Put behind a layer, `y = top_k_gradients(30)(nn.Dense(500)(x))`, it lets the k entries of the
    largest |gradient| reach that layer, for each example (and, behind a convolution, each pixel) by
    itself; all others are exactly zero. Exactly k entries go back: of equal ones, those of the
    lower index; NaN counts as largest, so that it is not hidden. Vectors of at most k entries go
    back whole. It works under jit, vmap, grad and shard_map; forward-mode derivatives are refused
    by JAX.

    Args:
      k: how many entries; or, as a float in (0, 1], their share: `round(k × entries)`, at least 1.
      axes: the number of last axes that are ranked together; with 1 these are the features of
        [..., F], and with 3 all outputs [H, W, F] of an image.

    Raises:
      ValueError: `k` is neither a positive integer nor a share, or, at the call, there are fewer
        axes.

    Source: Sun et al., arXiv:1706.06197, equations 3 to 6.

    Example:
        >>> from pruning import top_k_gradients
        >>> weights = jnp.array([1.0, -5.0, 3.0])
        >>> jax.grad(lambda x: jnp.sum(weights * top_k_gradients(2)(x)))(jnp.ones(3)).tolist()
        [0.0, -5.0, 3.0]
    """
    _check(k, axes)

    @jax.custom_vjp
    def same(outputs: jax.Array) -> jax.Array:
        return outputs

    def forward(outputs: jax.Array) -> tuple[jax.Array, None]:
        return outputs, None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (_largest(gradient, k, axes),)

    same.defvjp(forward, backward)

    def passed(outputs: jax.Array) -> jax.Array:
        if jnp.ndim(outputs) < axes:
            raise ValueError(f"outputs of shape {jnp.shape(outputs)} have no {axes} axes to rank")
        return same(outputs)

    return passed


def in_layers(
    model: Any, k: float, layers: Sequence[str] | None = None, axes: int = 1
) -> Callable[..., Any]:
    """Returns a network's function with `top_k_gradients` behind its Dense and Conv layers.

    The network is not rewritten: its traced program is computed with another product in each of
    these layers, so what is in front of them gets what goes back through k entries. A bias that the
    network adds to the product gets its whole gradient; the paper's layers have none.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, …) → outputs.
      k: see `top_k_gradients`; where a layer has fewer features, all of them go back.
      layers: paths, such as `["fc1", "fc2"]`; by default all.
      axes: see `top_k_gradients`.

    Returns:
      (variables, …) → outputs, which are those of the network itself. Its call raises a ValueError
      for a path that is no such layer, and, where all layers are meant, for weights that cannot be
      reached.
    """
    behind = top_k_gradients(k, axes)

    def compute(layer: Layer, kernel: jax.Array, inputs: jax.Array) -> jax.Array:
        return behind(override.compute(layer, kernel, inputs))

    def apply(variables: Any, *args: Any, **kwargs: Any) -> Any:
        reached, refused = reach.layers(model, variables, *args, **kwargs)
        if layers is None and refused:
            path, reason = next(iter(refused.items()))
            raise ValueError(
                f"{path!r} cannot be reached ({reason}): name the layers that are meant"
            )
        for path in layers or ():
            if path not in reached:
                raise ValueError(str(unknown("layer", path, reached)))
        chosen = reached if layers is None else layers
        changed = {path: override.Override(compute=compute) for path in chosen}
        return override.override(model, changed)(variables, *args, **kwargs)

    return apply


def _largest(gradient: jax.Array, k: float, axes: int) -> jax.Array:
    """Returns the gradient with all but the largest entries of each vector zero."""
    lead = gradient.shape[: gradient.ndim - axes]
    vectors = gradient.reshape(*lead, math.prod(gradient.shape[len(lead) :]))
    entries = vectors.shape[-1]
    count = k if isinstance(k, int) else max(1, round(k * entries))
    if count >= entries:
        return gradient
    _, places = lax.top_k(jnp.abs(vectors), count)  # of equal ones the lower index comes first
    kept = jnp.zeros(vectors.shape, bool)
    kept = jnp.put_along_axis(kept, places, True, axis=-1, inplace=False)
    return jnp.where(kept, vectors, jnp.zeros_like(vectors)).reshape(gradient.shape)


def _check(k: float, axes: int) -> None:
    whole = isinstance(k, int) and not isinstance(k, bool)
    if not (k >= 1 if whole else isinstance(k, float) and 0 < k <= 1):
        raise ValueError(f"k={k!r} must be a number of entries from 1, or a share in (0, 1]")
    if operator.index(axes) < 1:
        raise ValueError(f"axes={axes} must be at least 1")
