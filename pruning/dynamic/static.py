"""Static sparse training: the mask of the start stays."""

import optax

from pruning import enforce
from pruning.masks import Mask


def static(
    optimizer: optax.GradientTransformation, mask: Mask | None
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser by a mask that never changes: `enforce.enforce` by another name.

    Args:
      optimizer: see `enforce.enforce`.
      mask: see `enforce.enforce`; such as a random one with the counts of `pruning.densities`.

    Example:
        >>> import optax
        >>> from pruning import dynamic
        >>> params = {"kernel": jnp.array([2.0, 0.0, 4.0])}
        >>> mask = {"kernel": jnp.array([True, False, True])}
        >>> optimizer = dynamic.static(optax.sgd(0.5), mask)
        >>> updates, _ = optimizer.update({"kernel": jnp.ones(3)}, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["kernel"].tolist()
        [1.5, 0.0, 3.5]
    """
    return enforce.enforce(optimizer, mask)
