"""What a run records of a level: the fields of its rows, and the counts of its layers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.devices import mesh as mesh_lib
from groundwork.trees import Variables
from pruning import masks
from pruning.masks import Mask
from pruning.schedule import Plan


def fields(plan: Plan, branch: str, level: int, mask: Mask, variables: Variables) -> dict[str, Any]:
    """Returns fields for every row of a unit. Density is a share of the full network's weights."""
    return {
        "level": level,
        "branch": branch,
        "density": kept(mask) / sum(plan.sizes.values()),  # [R]
        "parameters": parameters(mask, variables),  # [R]
    }


def kept(mask: Mask) -> np.ndarray:
    """Returns the numbers of kept weights, [R] int."""
    return np.sum(list(mesh_lib.fetch(jax.vmap(masks.kept)(mask)).values()), axis=0)


def parameters(mask: Mask, variables: Variables) -> np.ndarray:
    """Returns the numbers of parameters that are not pruned, prunable or not, [R] int."""
    weights = kept(mask)
    count, prunable = trees.count(variables["params"]), masks.total(mask)
    return (count - prunable) // len(weights) + weights


def metadata(requested: Mapping[str, float], branch: str, level: int, mask: Mask) -> dict[str, Any]:
    """Returns, for the report, the weights asked and kept by layer; see `Plan.requested`."""
    layers = {k: n.tolist() for k, n in mesh_lib.fetch(jax.vmap(masks.kept)(mask)).items()}
    sizes: dict[str, int] = {}
    for path, leaf in mask.items():
        layer = masks.layer_of(path)
        sizes[layer] = sizes.get(layer, 0) + leaf[0].size
    return {
        "level": level,
        "branch": branch,
        "kept": layers,
        "sizes": sizes,
        "requested": dict(requested),
    }
