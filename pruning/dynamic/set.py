"""SET, sparse evolutionary training: weights of little magnitude give way to random ones."""

import functools

import jax
import optax

from groundwork.trees import Params
from pruning.criteria.weights import random
from pruning.dynamic import regrowth
from pruning.dynamic.changing import changing
from pruning.masks import Mask


def set(
    optimizer: optax.GradientTransformation,
    mask: Mask | None,
    *,
    key: jax.Array | None = None,
    end: int | None = None,
    every: int = 100,
    fraction: float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by SET: drop by magnitude, grow at random.

    It is `rigl` in all else, and its gradients need not be dense. The key is part of the state.

    Source: Mocanu et al., arXiv:1707.04780, Section 2, with the settings that Evci et al.,
    arXiv:1911.11134, give it. Departs from the former: it changes every few steps instead of every
    epoch, the share decays, what grows is zero at first, and the change takes the place of the
    optimiser's step.

    Args:
      optimizer: see `rigl`.
      mask: see `rigl`.
      key: [] key, folded with the step; of each replicate its own. By default `jax.random.key(0)`.
      end: see `rigl`.
      every: see `rigl`.
      fraction: see `rigl`.

    Raises:
      ValueError: see `rigl`.

    Example:
        >>> import optax
        >>> from pruning import dynamic, masks
        >>> params = {"kernel": jnp.array([3.0, 1.0, 0.0])}
        >>> mask = {"kernel": jnp.array([True, True, False])}
        >>> optimizer = dynamic.set(optax.sgd(0.1), mask, every=1, fraction=0.5)
        >>> gradients = {"kernel": jnp.ones(3)}
        >>> _, state = optimizer.update(gradients, optimizer.init(params), params)
        >>> masks.mask_of(state)["kernel"].astype(int).tolist()  # the 1 went, and the 0 came
        [1, 0, 1]
    """
    regrowth.check(every, fraction, end)

    def change(
        mask: Mask, params: Params, gradients: Params, step: jax.Array, key: jax.Array | None
    ) -> Mask:
        del gradients
        assert key is not None
        growth = random(params, mask, key=jax.random.fold_in(key, step))
        return regrowth.regrown(mask, params, growth, regrowth.cosine(fraction, step, end))

    return changing(
        optimizer,
        mask,
        change,
        functools.partial(regrowth.due, every=every, end=end),
        replaces=True,
        key=jax.random.key(0) if key is None else key,
    )
