"""How much two masks have in common, beside what random masks would. Read `overlap` first."""

# n masks, L layers

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from groundwork import trees
from pruning.masks import layer_of

AnyMask = Mapping[str, Any]
"""Path → bool array, or any tree of bool arrays: a mask of one replicate, of NumPy or JAX."""


class Overlap(NamedTuple):
    """What two masks have in common.

    Attributes:
      hamming: the share of prunable weights that one keeps and the other does not, in [0, 1].
      jaccard: weights that both keep / weights that one of them keeps, in [0, 1]; 1 if neither
        keeps any.
      chance: the Jaccard index of random masks that keep as many weights of each layer: that of the
        expected number of weights that both keep.
    """

    hamming: float
    jaccard: float
    chance: float


class Compared(NamedTuple):
    """What each two of n masks have in common, [n, n], or two of them: see `Overlap`.

    Attributes:
      hamming: see `Overlap`.
      jaccard: likewise.
      chance: likewise.
      chance_hamming: the expected Hamming distance of masks such as those of `chance`.
    """

    hamming: Any
    jaccard: Any
    chance: Any
    chance_hamming: Any


def overlap(mask: AnyMask, other: AnyMask) -> Overlap:
    """Returns what two masks of one network have in common; their densities may differ.

    Random masks that keep a and b of a layer's n weights have a·b/n of them in common on average:
    the mean of a hypergeometric distribution. `chance` puts the sum over layers in the place of the
    number that both keep.

    Args:
      mask: of one replicate.
      other: likewise.

    Raises:
      ValueError: the masks differ in paths or shapes, are empty, or are not of bools.

    Example:
        >>> from lottery import analysis
        >>> first = {"fc/kernel": np.array([True, True, False, False])}
        >>> second = {"fc/kernel": np.array([True, False, False, False])}
        >>> found = analysis.overlap(first, second)  # of two kept weights, both keep one
        >>> found.hamming, found.jaccard, round(found.chance, 3)
        (0.25, 0.5, 0.2)
    """
    return Overlap(*(float(field[0, 1]) for field in matrix([mask, other])[:3]))


def by_layer(mask: AnyMask, other: AnyMask) -> dict[str, Compared]:
    """Returns layer → what two masks have in common there, as numbers; see `overlap`.

    Raises:
      ValueError: see `overlap`.

    Example:
        >>> from lottery import analysis
        >>> first = {"fc1/kernel": np.array([True, False]), "fc2/kernel": np.array([True, False])}
        >>> second = {"fc1/kernel": np.array([True, False]), "fc2/kernel": np.array([False, True])}
        >>> layers = analysis.by_layer(first, second)
        >>> {layer: found.jaccard for layer, found in layers.items()}
        {'fc1': 1.0, 'fc2': 0.0}
    """
    masks = _checked([mask, other])
    parts: dict[str, list[str]] = {}
    for path in masks[0]:
        parts.setdefault(layer_of(path), []).append(path)
    each = {
        layer: matrix([{path: one[path] for path in paths} for one in masks])
        for layer, paths in parts.items()
    }
    return {
        layer: Compared(*(float(field[0, 1]) for field in fields)) for layer, fields in each.items()
    }


def matrix(masks: Sequence[AnyMask]) -> Compared:
    """Returns what each two of several masks have in common: fields [n, n], symmetric.

    Raises:
      ValueError: there is no mask, or see `overlap`.

    Example:
        >>> from lottery import analysis
        >>> rows = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], bool)
        >>> found = analysis.matrix([{"fc/kernel": row} for row in rows])
        >>> found.hamming.tolist()
        [[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    sizes, kept, both = _counts(_checked(masks))
    weights, total = sizes.sum(), kept.sum(1)
    either = total[:, None] + total  # with those of both, twice
    expected = (kept[:, None] * kept / np.maximum(sizes, 1)).sum(-1)
    return Compared(
        hamming=(either - 2 * both) / max(weights, 1),
        jaccard=_index(both, either),
        chance=_index(expected, either),
        chance_hamming=(either - 2 * expected) / max(weights, 1),
    )


def _counts(masks: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sizes [L], kept [n, L], and how many weights each two of them keep, [n, n]."""
    layers = list(dict.fromkeys(map(layer_of, masks[0])))
    sizes, kept = np.zeros(len(layers)), np.zeros((len(masks), len(layers)))
    both = np.zeros((len(masks), len(masks)))
    for path in masks[0]:
        flat = np.stack([mask[path].ravel() for mask in masks])  # [n, weights]
        layer = layers.index(layer_of(path))
        sizes[layer] += flat.shape[1]
        kept[:, layer] += flat.sum(1)
        for row, mask in enumerate(flat):
            both[row] += np.count_nonzero(flat & mask, axis=1)
    return sizes, kept, both


def _index(both: Any, either: Any) -> Any:
    return np.where(either > 0, both / np.maximum(either - both, 1), 1.0)


def _checked(masks: Sequence[AnyMask]) -> list[dict[str, np.ndarray]]:
    """Returns masks of one network, as path → bool array."""
    if not len(masks):
        raise ValueError("no masks are given")
    flat = [
        {path: np.asarray(leaf) for path, leaf in trees.flatten(mask).items()} for mask in masks
    ]
    first = flat[0]
    if not any(flat):
        raise ValueError("the mask is empty: it has no arrays")
    for mask in flat:
        if differing := sorted(first.keys() ^ mask.keys()):
            raise ValueError(
                f"the masks are those of different networks: one alone has {differing[0]}"
            )
        for path, leaf in mask.items():
            if leaf.shape != first[path].shape:
                shapes = f"{first[path].shape} and {leaf.shape}"
                raise ValueError(f"the masks of {path} have shapes {shapes}")
            if leaf.dtype != bool:
                raise ValueError(f"the mask of {path} must be bool, not {leaf.dtype}")
    return flat
