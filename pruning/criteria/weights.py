"""Score functions: higher = keep. All have the signature of `magnitude`.

(params, mask, *, key) → scores, a flat dict of the mask's paths. `params` is the whole tree
after training, `key` a random key of the level; a criterion uses what it needs.
"""

from typing import Any

import jax
import jax.numpy as jnp

from pruning.masks import Mask, Scores, flatten


def magnitude(params: Any, mask: Mask, *, key: jax.Array | None = None) -> Scores:
    """|weight| at the end of training. Source: Han et al., arXiv:1506.02626."""
    del key
    return {path: jnp.abs(leaf) for path, leaf in flatten(params, mask.__contains__).items()}


def random(params: Any, mask: Mask, *, key: jax.Array) -> Scores:
    """Uniform in [0, 1), independent of the weights: the control for every other criterion."""
    del params
    paths = sorted(mask)
    split = jax.random.split(key, len(paths))
    return {p: jax.random.uniform(k, mask[p].shape) for p, k in zip(paths, split, strict=True)}
