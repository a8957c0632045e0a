"""What is demanded of the examples of a source, whatever their shapes are. Read `checked` first."""

# N examples

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.data.own import Arrays, Given
from groundwork.errors import UserError

MOST_UNSEEN = 100_000  # classes without a training example: beyond it, labels are no classes


def checked(name: str, given: Given) -> Given:
    """Returns the examples with 32-bit labels and numbers, and the number of their classes.

    The targets are classes if they are one integer for each example. If their number is not given,
    it is that of the training set, and 0 where targets are anything else.

    Raises:
      UserError: a split is empty, inputs and targets differ in number, the splits differ in shape
        or dtype, an array has no numbers or some that are not finite, or a label is out of range.
    """
    classes, labels = given.classes, jax.tree.map(np.asarray, given.train[1])
    if classes is None:
        classes = int(np.max(labels, initial=0)) + 1 if _are_classes(labels) else 0
    splits = {"train": given.train, "test": given.test, "validation": given.validation}
    ready = {
        split: _checked(f"{split} of {name}", *pair, classes)
        for split, pair in splits.items()
        if pair is not None
    }
    for split, pair in ready.items():
        _check_alike(name, ready["train"], split, pair)
    return Given(**ready, classes=classes)


def unseen(labels: Any, classes: int) -> list[int]:
    """Returns the classes that no example has; none where targets are not one class each.

    Raises:
      UserError: they are more than `MOST_UNSEEN`.
    """
    if not classes or not _are_classes(labels):
        return []
    seen = np.unique(labels)
    if classes - len(seen) > MOST_UNSEEN:
        raise UserError(
            f"there are {classes} classes, the largest label and all below it, and training "
            f"examples of {len(seen)} alone: number the labels from 0 on"
        )
    return np.setdiff1d(np.arange(classes), seen).tolist()


def of_classes(name: str, given: Given, classes: Sequence[int]) -> Given:
    """Returns the examples of some classes alone, which are numbered anew from 0 in their order.

    Args:
      name: of the data set, for errors.
      given: see `checked`.
      classes: those that are kept; empty = all.

    Raises:
      UserError: targets are no classes, a class does not exist, or a split has no example of any.
    """
    if not classes:
        return given
    if not given.classes or not _are_classes(given.train[1]):
        raise UserError(f"data.classes={tuple(classes)}: the targets of {name} are no classes")
    if max(classes) >= given.classes:
        raise UserError(
            f"data.classes={tuple(classes)}: {name} has classes 0 to {given.classes - 1}"
        )
    number = np.full(given.classes, -1, np.int32)  # class → its new number
    number[list(classes)] = np.arange(len(classes))

    def chosen(split: str, pair: Arrays) -> Arrays:
        labels = number[pair[1]]
        if not (labels >= 0).any():
            raise UserError(
                f"data.classes={tuple(classes)}: {split} of {name} has no example of them"
            )
        return jax.tree.map(lambda leaf: leaf[labels >= 0], pair[0]), labels[labels >= 0]

    return Given(
        train=chosen("train", given.train),
        test=chosen("test", given.test),
        validation=given.validation and chosen("validation", given.validation),
        classes=len(classes),
    )


def count(tree: Any) -> int:
    """Returns N, the number of examples."""
    return len(jax.tree.leaves(tree)[0])


def _are_classes(labels: Any) -> bool:
    return isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "biu"


def _checked(name: str, inputs: Any, labels: Any, classes: int) -> Arrays:
    inputs, labels = jax.tree.map(np.asarray, (inputs, labels))
    leaves = {**_leaves("inputs", inputs), **_leaves("targets", labels)}
    for path, leaf in leaves.items():
        _check_numbers(f"{path} of {name}", leaf)
    lengths = {path: len(leaf) for path, leaf in leaves.items()}
    if len(set(lengths.values())) > 1:
        if list(lengths) == ["inputs", "targets"]:
            raise UserError(
                f"{name} has {lengths['inputs']} images but {lengths['targets']} labels"
            )
        listed = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise UserError(f"the arrays of {name} differ in their number of examples: {listed}")
    if not count(labels):
        raise UserError(f"{name}: there are no examples")
    if classes:
        for leaf in jax.tree.leaves(labels):
            _check_range(name, leaf, classes)
    return jax.tree.map(_in_32_bits, inputs), jax.tree.map(_in_32_bits_signed, labels)


def _leaves(part: str, tree: Any) -> dict[str, np.ndarray]:
    leaves = trees.flatten(tree)
    if not leaves:
        raise UserError(f"the {part} have no arrays")
    return {f"{part}/{path}".rstrip("/"): leaf for path, leaf in leaves.items()}


def _check_numbers(where: str, leaf: np.ndarray) -> None:
    if not leaf.ndim:
        raise UserError(f"{where}: a single number is no array of examples")
    if leaf.dtype.kind not in "biuf" and leaf.dtype.name != "bfloat16":
        raise UserError(f"{where} are of {leaf.dtype}: numbers are needed")
    if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
        raise UserError(f"{where}: {np.sum(~np.isfinite(leaf))} numbers are not finite")


def _check_range(name: str, labels: np.ndarray, classes: int) -> None:
    """Refuses labels beyond the classes; a negative one of a token says that it does not count."""
    if labels.dtype.kind not in "biu":
        return
    outside = labels >= classes
    if labels.ndim == 1:
        outside |= labels < 0
    bad = np.flatnonzero(outside)
    if len(bad):
        example = bad[0] // max(1, labels[0].size)
        raise UserError(
            f"label {labels.ravel()[bad[0]]} of example {example} of {name} is out of range: "
            f"expected 0 to {classes - 1}"
        )


def _check_alike(name: str, train: Arrays, split: str, pair: Arrays) -> None:
    """Refuses splits whose examples are of other shapes or dtypes than the training examples."""
    there, here = (
        {path: (leaf.shape[1:], leaf.dtype) for path, leaf in trees.flatten(tree).items()}
        for tree in (train, pair)
    )
    if there.keys() != here.keys():
        raise UserError(f"{name}: {split} has other arrays than train: {list(here)}, {list(there)}")
    for path, (shape, dtype) in there.items():
        if here[path][0] != shape:
            raise UserError(
                f"{name} has training examples of shape {shape} but {split} examples of "
                f"shape {here[path][0]}"
            )
        if here[path][1] != dtype:
            raise UserError(f"{name} has {dtype} in train but {here[path][1]} in {split}")


def _in_32_bits(array: np.ndarray) -> np.ndarray:
    """Returns an array of 64-bit numbers as one of 32 bits, which is what devices hold."""
    if array.dtype.itemsize < 8:
        return array
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if not np.iinfo(np.int32).min <= low <= high <= np.iinfo(np.int32).max:
            raise UserError(f"the integer {high if high > 2**31 - 1 else low} needs 64 bits")
    with np.errstate(over="ignore"):  # said below, with the number
        shorter = array.astype({"i": np.int32, "u": np.int32, "f": np.float32}[array.dtype.kind])
    if array.dtype.kind == "f" and not np.isfinite(shorter).all():
        raise UserError(f"the number {array[~np.isfinite(shorter)][0]} is too large for float32")
    return shorter


def _in_32_bits_signed(array: np.ndarray) -> np.ndarray:
    """Returns targets as int32 or, of floats, as float32."""
    if array.dtype.kind in "biu":
        return (
            _in_32_bits(array.astype(np.int64)) if array.dtype.itemsize < 8 else _in_32_bits(array)
        )
    return _in_32_bits(array) if array.dtype.itemsize == 8 else array.astype(np.float32)
