"""Codebooks of one size for all, so that kernels of any bits are trained by one compiled program.

All functions take the trees of one replicate, and work on the host.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from compress import quantize
from compress.quantize import Clusters, k_means
from compress.stages import latent
from compress.stages.latent import STORED, Quantizer
from groundwork import trees
from groundwork.trees import Variables
from pruning.masks import Mask


def begin(quantizer: Quantizer, variables: Variables, mask: Mask) -> dict[str, Any]:
    """Returns the variables to train: codebooks beside stored forms, as `latent.begin` does.

    Args:
      quantizer: of `kmeans`, with the bits of each kernel.
      variables: of the network.
      mask: of the network, of all of these kernels.
    """
    kernels = latent.kernels(variables["params"])
    most = max((leaf.size for leaf in kernels.values()), default=0)

    def clusters(path: str, leaf: Any) -> Any:
        if path not in quantizer.bits:
            return leaf
        kept = np.asarray(mask[path])
        return k_means.kmeans_of_any_size(np.asarray(leaf), quantizer.bits[path], kept, most)

    forms = trees.map_with_path(clusters, variables["params"])
    return {**variables, "params": quantize.learnable(forms), STORED: forms}


def widened(most_bits: int, variables: Variables) -> dict[str, Any]:
    """Returns what `begin` gave, with codebooks of 2**most_bits entries.

    Those beyond a kernel's own are 0, no index names them, and they have no gradient.
    """
    forms = _mapped(lambda path, form: _resized(form, 2**most_bits), variables[STORED])
    return {**variables, "params": quantize.learnable(forms), STORED: forms}


def finish(quantizer: Quantizer, variables: Variables) -> dict[str, Any]:
    """Returns the variables with stored forms, whose codebooks have 2**bits entries again.

    Args:
      quantizer: see `begin`; biases and all other leaves get its `other_bits`.
      variables: as `widened` gave them, trained since.
    """
    done, bits = latent.finish(quantizer, variables), quantizer.bits
    return {**done, "params": _mapped(lambda path, f: _resized(f, 2 ** bits[path]), done["params"])}


def _mapped(function: Callable[[str, Clusters], Clusters], tree: Any) -> Any:
    """Returns the tree with `function(path, form)` in place of its codebooks with their indices."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: function(trees.path(keys), leaf) if isinstance(leaf, Clusters) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, quantize.Stored),
    )


def _resized(form: Clusters, size: int) -> Clusters:
    """Returns the form with a codebook of another size."""
    codebook = np.asarray(form.codebook)[:size]
    indices: Any = np.asarray(form.indices).astype(np.uint8 if size <= 256 else np.uint16)
    padded: Any = np.pad(codebook, (0, size - codebook.size))
    return form._replace(codebook=padded, indices=indices)
