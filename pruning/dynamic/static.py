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
    """
    return enforce.enforce(optimizer, mask)
