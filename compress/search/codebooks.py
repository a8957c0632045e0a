"""Codebooks of one size for all, so that kernels of any bits are trained by one compiled program.

All functions take the trees of one replicate.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress import quantize
from compress.quantize import Clusters
from compress.stages import latent
from compress.stages.latent import STORED, Quantizer
from groundwork import trees
from groundwork.trees import Variables
from pruning.masks import Mask


def begin(
    quantizer: Quantizer, bits: Mapping[str, int], variables: Variables, mask: Mask
) -> dict[str, Any]:
    """Returns the variables to train: codebooks beside stored forms, as `latent.begin` does.

    Args:
      quantizer: of `kmeans`; its bits are those of the codebooks' size, at least those of a kernel.
      bits: path of a kernel → the bits that it has; the entries beyond 2**bits are 0, no index
        names them, and they have no gradient.
      variables: of the network.
      mask: of the network.
    """
    sized = quantizer._replace(bits=dict(bits))
    begun = latent.begin(sized, jax.random.key(0), variables, mask)
    forms = _mapped(lambda path, form: _resized(form, 2 ** quantizer.bits[path]), begun[STORED])
    return {**begun, "params": quantize.learnable(forms), STORED: forms}


def finish(quantizer: Quantizer, bits: Mapping[str, int], variables: Variables) -> dict[str, Any]:
    """Returns the variables with stored forms, whose codebooks have 2**bits entries again.

    Args:
      quantizer: see `begin`; biases and all other leaves get its `other_bits`.
      bits: see `begin`.
      variables: as `begin` gave them, trained since.
    """
    done = latent.finish(quantizer, variables)
    forms = _mapped(lambda path, form: _resized(form, 2 ** bits[path]), done["params"])
    return {**done, "params": forms}


def _mapped(function: Callable[[str, Clusters], Clusters], tree: Any) -> Any:
    """Returns the tree with `function(path, form)` in place of the forms of these kernels."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: function(trees.path(keys), leaf) if isinstance(leaf, Clusters) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, quantize.Stored),
    )


def _resized(form: Clusters, size: int) -> Clusters:
    """Returns the form with another size of its codebook, or of the codebooks of a stack."""
    codebook = form.codebook[..., :size]
    rest = [(0, 0)] * (codebook.ndim - 1) + [(0, size - codebook.shape[-1])]
    indices = form.indices.astype(jnp.uint8 if size <= 256 else jnp.uint16)
    return form._replace(codebook=jnp.pad(codebook, rest), indices=indices)
