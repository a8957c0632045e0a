"""Weights that shrink to exactly zero while they train, with no mask: proximal L1 and L2."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from groundwork.trees import Params
from pruning import masks
from pruning.masks import Mask

Strength = float | Callable[[jax.Array], jax.Array]  # or step, [] int32 → [] float32


class ProximalState(NamedTuple):
    """The state of an optimiser that is followed by a proximal step."""

    inner: Any
    step: jax.Array  # [] int32, how many steps were seen


def proximal_l1(
    optimizer: optax.GradientTransformation,
    strength: Strength,
    prunable: Callable[[str], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by a soft threshold: after its update, |w| shrinks by the strength.

    Weights within the strength of zero become exactly zero; `nonzero` reads the mask. They may come
    back: `enforce.enforce` holds them once the mask is chosen. This is the proximal step of
    λ Σ|w| for plain gradient descent of learning rate η with strength = η × λ, and for other
    optimisers what is said here.

    Source: Daubechies et al., arXiv:math/0307152 (iterative soft thresholding).

    Args:
      optimizer: an optax gradient transformation.
      strength: by which magnitudes shrink in each step, at least 0; or a function of the step,
        which is that of `update(…, step=…)`, or else counted in the state.
      prunable: path → bool; by default True for leaves named `kernel`.

    Raises:
      ValueError: the strength is negative or not finite, or `update` gets no `params`.

    Example:
        >>> import optax
        >>> from pruning import dynamic
        >>> params, gradients = {"kernel": jnp.array([2.0, -1.0, 0.25])}, {"kernel": jnp.zeros(3)}
        >>> optimizer = dynamic.proximal_l1(optax.sgd(0.1), strength=0.5)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()
        [1.5, -0.5, 0.0]
    """
    _check("strength", strength)

    def shrunk(weight: jax.Array, by: jax.Array) -> jax.Array:
        return jnp.sign(weight) * jnp.maximum(jnp.abs(weight) - by, 0)

    return _followed(optimizer, shrunk, strength, prunable)


def proximal_l2(
    optimizer: optax.GradientTransformation,
    strength: Strength,
    threshold: float,
    prunable: Callable[[str], bool] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by decay to sparsity: after its update, w becomes w / (1 + strength).

    That is the proximal step of (strength / 2) Σ w². It alone makes no zeros, so weights whose
    magnitude is then below the threshold become exactly zero. All else is as for `proximal_l1`.

    Args:
      optimizer: an optax gradient transformation.
      strength: see `proximal_l1`.
      threshold: below which weights become zero, at least 0.
      prunable: see `proximal_l1`.

    Raises:
      ValueError: see `proximal_l1`; or the threshold is negative or not finite.

    Example:
        >>> import optax
        >>> from pruning import dynamic
        >>> params, gradients = {"kernel": jnp.array([2.0, -1.0, 0.25])}, {"kernel": jnp.zeros(3)}
        >>> optimizer = dynamic.proximal_l2(optax.sgd(0.1), strength=1.0, threshold=0.25)
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()  # halves; 0.125 is too small
        [1.0, -0.5, 0.0]
    """
    _check("strength", strength)
    _check("threshold", threshold)

    def shrunk(weight: jax.Array, by: jax.Array) -> jax.Array:
        weight = weight / (1 + by)
        return jnp.where(jnp.abs(weight) < threshold, jnp.zeros_like(weight), weight)

    return _followed(optimizer, shrunk, strength, prunable)


def nonzero(params: Params, prunable: Callable[[str], bool] | None = None) -> Mask:
    """Returns the mask of the weights that are not zero.

    Example:
        >>> from pruning import dynamic
        >>> dynamic.nonzero({"fc": {"kernel": jnp.array([2.0, 0.0, -0.1]), "bias": jnp.zeros(1)}})
        {'fc/kernel': Array([ True, False,  True], dtype=bool)}
    """
    return {path: leaf != 0 for path, leaf in masks.flatten(params, prunable).items()}


def _followed(
    optimizer: optax.GradientTransformation,
    shrunk: Callable[[jax.Array, jax.Array], jax.Array],
    strength: Strength,
    prunable: Callable[[str], bool] | None,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimiser after whose updates the prunable weights w are `shrunk(w, strength)`."""
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> ProximalState:
        masks.ones(params, prunable)  # something must be prunable
        return ProximalState(optimizer.init(params), jnp.int32(0))

    def update(
        updates: Params,
        state: ProximalState,
        params: Params | None = None,
        *,
        step: jax.Array | None = None,
        **extra_args: Any,
    ) -> tuple[Params, ProximalState]:
        if params is None:
            raise ValueError("a proximal step needs the parameters: update(…, state, params)")
        now = state.step if step is None else jnp.asarray(step, jnp.int32)
        by = strength(now) if callable(strength) else strength
        passed = extra_args if step is None else {"step": step, **extra_args}
        updates, inner = optimizer.update(updates, state.inner, params, **passed)

        def moved(_: Any, update: jax.Array, weight: jax.Array) -> jax.Array:
            # −w has the weight's precision, so where the result is zero, the sum is exactly that
            return shrunk(weight + update, jnp.asarray(by, weight.dtype)) - weight

        mask = masks.ones(params, prunable)
        return masks.map_masked(moved, mask, updates, params), ProximalState(inner, now + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _check(name: str, value: Strength) -> None:
    if not callable(value) and not 0 <= value < float("inf"):
        raise ValueError(f"{name} {value} must be finite and at least 0")
