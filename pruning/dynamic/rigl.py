"""RigL: weights of little magnitude give way to those of large gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from groundwork.trees import Params
from pruning import masks
from pruning.dynamic import regrowth
from pruning.dynamic.changing import changing
from pruning.masks import Mask


def rigl(
    optimizer: optax.GradientTransformation,
    mask: Mask | None,
    *,
    end: int | None = None,
    every: int = 100,
    fraction: float = 0.3,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by RigL: drop by magnitude, grow by the gradient's magnitude.

    At the steps 0, every, 2·every, … before `end`, a share of each leaf's kept weights, which a
    cosine takes from `fraction` to 0, gives way to as many pruned ones; see `regrowth.regrown`.
    Weights that grow are zero at first, with fresh moments. As published, such a change takes the
    place of the optimiser's update: no other weight moves in that step. No leaf's count ever
    changes, and no mask compiles anything.

    `update` must be given dense gradients: those of the pruned weights, too, as `jax.grad` makes
    them. It takes the keyword `step`, or else counts by itself. Training starts from
    `masks.apply(mask, params)`, so that what grows is zero. It works under jit, vmap and shard_map;
    what goes inside and outside of it, `enforce.enforce` says.

    Source: Evci et al., arXiv:1911.11134, Algorithm 1. Departs: what is dropped is no candidate to
    grow in the same step; the optimiser's state, its moments and counts, goes on in such a step.

    Args:
      optimizer: an optax gradient transformation.
      mask: the mask of the start, such as a random one with the counts of `pruning.densities`; None
        if the caller puts it into the state.
      end: the step from which the mask stays as it is; the authors' is 3/4 of the training. None:
        it changes to the end of the training, and the share stays as it is.
      every: steps from one change to the next.
      fraction: of the kept weights, in [0, 1], at step 0.

    Returns:
      An optax gradient transformation with `changing.DynamicState`.

    Raises:
      ValueError: a setting is out of its range; `init` and `update` raise that of `enforce`.

    Example:
        >>> import optax
        >>> from pruning import dynamic, masks
        >>> params = {"kernel": jnp.array([3.0, 1.0, 0.0, 0.0])}
        >>> mask = {"kernel": jnp.array([True, True, False, False])}
        >>> optimizer = dynamic.rigl(optax.sgd(0.1), mask, every=1, fraction=0.5)
        >>> gradients = {"kernel": jnp.array([1.0, 1.0, 2.0, -5.0])}
        >>> _, state = optimizer.update(gradients, optimizer.init(params), params)
        >>> masks.mask_of(state)["kernel"].astype(int).tolist()  # 1 went, and −5 brought the last
        [1, 0, 0, 1]
    """
    regrowth.check(every, fraction, end)

    def change(mask: Mask, params: Params, gradients: Params, step: jax.Array, key: Any) -> Mask:
        del key
        leaves = masks.flatten(gradients, mask.__contains__)
        growth = {path: jnp.abs(leaf) for path, leaf in leaves.items()}
        return regrowth.regrown(mask, params, growth, regrowth.cosine(fraction, step, end))

    return changing(
        optimizer,
        mask,
        change,
        functools.partial(regrowth.due, every=every, end=end),
        replaces=True,
    )
