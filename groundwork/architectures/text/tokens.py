"""What language models demand of their inputs."""

import jax
import jax.numpy as jnp


def check(tokens: jax.Array) -> None:
    """Refuses inputs that are no sequences of tokens.

    Args:
      tokens: [B, L] of integers.

    Raises:
      ValueError: they have other axes, or are no integers.
    """
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"a language model takes integers [B, L], such as those of data.source=text, not "
            f"{tokens.dtype} of shape {tokens.shape}"
        )
