"""When a mask has stopped changing: distances between masks, and the detector over them."""

# E masks, N entries of a mask

from collections.abc import Sequence
from typing import Any

import numpy as np

from groundwork import trees


def distances(masks: Sequence[Any]) -> np.ndarray:
    """Returns [E, E] float64: the share of entries in which each two of the masks differ.

    It is the Hamming distance over the number of all entries, kept and pruned ones. Two random
    masks of density d have the distance 2 d (1 − d) on average.
    Source: You et al., arXiv:1909.11957, Section 3.1 and Figure 3.

    Args:
      masks: of one network, in the order of the training: path → bool array, or any other tree of
        bool arrays.

    Raises:
      ValueError: there are no masks, they have no entries, or not all of them have the same paths
        and shapes and are bool.

    Example:
        >>> from lottery import early_bird
        >>> rows = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]], bool)  # one mask an epoch
        >>> early_bird.distances([{"kernel": row} for row in rows]).tolist()
        [[0.0, 0.5, 0.75], [0.5, 0.0, 0.25], [0.75, 0.25, 0.0]]
    """
    if not len(masks):
        raise ValueError("there are no masks to compare")
    for number, mask in enumerate(masks):
        if (form := _form(mask)) != _form(masks[0]):
            raise ValueError(f"mask {number} is {form}, but mask 0 is {_form(masks[0])}")
    rows = np.stack([_flat(mask) for mask in masks])
    if not rows.shape[1]:
        raise ValueError("the masks have no entries")
    return np.stack([np.count_nonzero(rows != row, axis=1) for row in rows]) / rows.shape[1]


def detect(
    distances: Sequence[float] | np.ndarray, threshold: float = 0.1, patience: int = 5
) -> int | None:
    """Returns the first index at which the last `patience` distances are all below the threshold.

    Source: You et al., arXiv:1909.11957, Section 3.2 and Algorithm 1: a distance is that between
    the masks of two epochs that follow each other, and the ticket is drawn at the later of them.
    The authors' code differs from their text: it compares the newest mask with each of the four
    before it, and takes distances that equal the threshold.

    Args:
      distances: of masks that follow each other, the oldest first; each is in [0, 1].
      threshold: ε of the paper, above 0.
      patience: l of the paper, the number of distances, from 1.

    Returns:
      The index, or None if there is no such one. A distance that is no number is not below.

    Raises:
      ValueError: the distances are no sequence, or a number is out of its range.

    Example:
        >>> from lottery import early_bird
        >>> early_bird.detect([0.4, 0.05, 0.2, 0.08, 0.03], threshold=0.1, patience=2)
        4
        >>> early_bird.detect([0.4, 0.05, 0.2], threshold=0.1, patience=2) is None
        True
    """
    values = np.asarray(distances, float)
    if values.ndim != 1:
        raise ValueError(
            f"distances of shape {list(values.shape)} must be one after the other: of a matrix of "
            "`distances`, give np.diagonal(matrix, 1)"
        )
    if not threshold > 0:
        raise ValueError(f"threshold={threshold} must be above 0")
    if patience < 1:
        raise ValueError(f"patience={patience} must be at least 1")
    below = 0
    for index, value in enumerate(values):
        below = below + 1 if value < threshold else 0
        if below >= patience:
            return index
    return None


def _leaves(mask: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in sorted(trees.flatten(mask).items())}


def _form(mask: Any) -> str:
    """Returns paths, types and shapes of a mask as text."""
    leaves = _leaves(mask)
    for path, leaf in leaves.items():
        if leaf.dtype != bool:
            raise ValueError(f"the mask {path} must be bool, not {leaf.dtype}".replace("  ", " "))
    return ", ".join(f"{path}{list(leaf.shape)}" for path, leaf in leaves.items())


def _flat(mask: Any) -> np.ndarray:
    leaves = [leaf.reshape(-1) for leaf in _leaves(mask).values()]
    return np.concatenate(leaves) if leaves else np.zeros(0, bool)
