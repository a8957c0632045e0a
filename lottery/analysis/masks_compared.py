"""How much two masks have in common, beside what random masks would. Read `overlap` first."""

# n masks, L layers

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pruning.masks import layer_of

AnyMask = Mapping[str, Any]
"""Path → bool array: a mask of one replicate, of NumPy or JAX."""


class Overlap(NamedTuple):
    """What two masks have in common: numbers, or arrays [n, n] of several masks.

    Attributes:
      hamming: the share of prunable weights that one keeps and the other does not, in [0, 1].
      jaccard: weights that both keep / weights that one of them keeps, in [0, 1]; 1 if neither
        keeps any.
      chance: the Jaccard index of random masks that keep as many weights of each layer: that of the
        expected number of weights that both keep.
      chance_hamming: the expected Hamming distance of such masks.
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
    """
    _check(mask, other)
    return _overlap(*_counts([mask, other]), 0, 1)


def by_layer(mask: AnyMask, other: AnyMask) -> dict[str, Overlap]:
    """Returns layer → what two masks have in common there; see `overlap`.

    Raises:
      ValueError: see `overlap`.
    """
    _check(mask, other)
    parts: dict[str, list[str]] = {}
    for path in mask:
        parts.setdefault(layer_of(path), []).append(path)
    return {
        layer: overlap({p: mask[p] for p in paths}, {p: other[p] for p in paths})
        for layer, paths in parts.items()
    }


def matrix(masks: Sequence[AnyMask]) -> Overlap:
    """Returns what each two of several masks have in common: fields [n, n], symmetric.

    Raises:
      ValueError: there is no mask, or see `overlap`.
    """
    if not masks:
        raise ValueError("no masks are given")
    for mask in masks:
        _check(masks[0], mask)
    one, two = np.indices((len(masks), len(masks)))
    return _overlap(*_counts(masks), one, two)


def _counts(masks: Sequence[AnyMask]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sizes [L], kept [n, L], and how many weights each two of them keep, [n, n]."""
    layers = list(dict.fromkeys(map(layer_of, masks[0])))
    sizes, kept = np.zeros(len(layers)), np.zeros((len(masks), len(layers)))
    both = np.zeros((len(masks), len(masks)))
    for path in masks[0]:
        flat = np.stack([np.asarray(mask[path]).ravel() for mask in masks])  # [n, weights]
        layer = layers.index(layer_of(path))
        sizes[layer] += flat.shape[1]
        kept[:, layer] += flat.sum(1)
        for row, mask in enumerate(flat):
            both[row] += np.count_nonzero(flat & mask, axis=1)
    return sizes, kept, both


def _overlap(sizes: np.ndarray, kept: np.ndarray, both: np.ndarray, one: Any, two: Any) -> Overlap:
    """Returns the overlap of the masks at places `one` and `two`."""
    weights, either = sizes.sum(), kept.sum(1)[one] + kept.sum(1)[two]  # with those of both, twice
    expected = (kept[one] * kept[two] / np.maximum(sizes, 1)).sum(-1)
    found = [
        (either - 2 * both[one, two]) / max(weights, 1),
        _index(both[one, two], either),
        _index(expected, either),
        (either - 2 * expected) / max(weights, 1),
    ]
    return Overlap(*(value if np.ndim(value) else float(value) for value in found))


def _index(both: Any, either: Any) -> Any:
    return np.where(either > 0, both / np.maximum(either - both, 1), 1.0)


def _check(mask: AnyMask, other: AnyMask) -> None:
    if not mask:
        raise ValueError("the mask is empty: it has no arrays")
    if differing := sorted(mask.keys() ^ other.keys()):
        raise ValueError(f"the masks are those of different networks: one alone has {differing[0]}")
    for path, leaf in mask.items():
        shapes = [np.shape(leaf), np.shape(other[path])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the masks of {path} have shapes {shapes[0]} and {shapes[1]}")
        for each in (leaf, other[path]):
            if np.asarray(each).dtype != bool:
                raise ValueError(f"the mask of {path} must be bool, not {np.asarray(each).dtype}")
