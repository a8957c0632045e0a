"""Examples that a user's own function gives, or a file of arrays: of any shape and dtype.

Read `Given` and `read_function` first. Worker processes import this module: it does without JAX.
"""

# N examples

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from groundwork import named
from groundwork.errors import UserError, missing
from groundwork.numerics import npz

Arrays = tuple[Any, Any]  # inputs and targets: arrays [N, …], or trees of them
NEEDED, OPTIONAL = ("train", "test"), ("validation", "classes")
PAIRS = (("x_train", "y_train"), ("x_test", "y_test"), ("x_validation", "y_validation"))
NPZ = tuple(name for pair in PAIRS for name in pair)


class Given(NamedTuple):
    """The examples of a source, before they are checked and split."""

    train: Arrays
    test: Arrays
    validation: Arrays | None = None
    classes: int | None = None  # None = as many as the targets name, if they are classes


def read_function(name: str, kwargs: Mapping[str, Any]) -> Given:
    """Returns what a user's function gives: `load(**data.kwargs)`.

    It returns `{"train": (inputs, targets), "test": (inputs, targets)}`, with `"validation"` or the
    number of `"classes"` if it likes. Inputs and targets are arrays [N, …] or trees of arrays; a
    tuple of inputs is for a network that takes several.

    Args:
      name: `package.module:load`.
      kwargs: its arguments.

    Raises:
      UserError: there is no such function, it fails, or it gives something else.
    """
    function = named.load("data.source", name)
    if not callable(function):
        raise UserError(f"data.source={name} is no function: {function!r}")
    given = named.call("data.kwargs" if kwargs else f"data.source={name}", function, kwargs)
    shown = "{'train': (inputs, targets), 'test': (inputs, targets)}"
    if not isinstance(given, Mapping) or not set(NEEDED) <= set(given):
        got = f"a mapping with {sorted(given)}" if isinstance(given, Mapping) else type(given)
        raise UserError(f"data.source={name} must return {shown}, not {got}")
    if unknown := sorted(map(str, set(given) - {*NEEDED, *OPTIONAL})):
        raise UserError(f"data.source={name} returns {unknown[0]!r}: {NEEDED + OPTIONAL} are known")
    classes = given.get("classes")
    if classes is not None and (type(classes) is not int or classes < 1):
        raise UserError(f"data.source={name}: classes={classes!r} must be an integer from 1")
    splits = {key: _pair(name, key, given[key]) for key in given if key != "classes"}
    return Given(**splits, classes=classes)


def read_npz(name: str, folder: str, kwargs: Mapping[str, Any], image_size: int) -> Given:
    """Reads `x_train`, `y_train`, `x_test` and `y_test` of an .npz file; nothing is executed.

    `x_validation` and `y_validation` may be in it, too. Files of single arrays in a folder, such
    as `x_train.npy`, serve as well.

    Args:
      name: of the data set.
      folder: the file, or the folder.
      kwargs: no argument is known.
      image_size: must be 0.

    Raises:
      UserError: an array is missing, or `npz.read` refuses the file; or arrays differ in shape.
    """
    check_kwargs("npz", kwargs, ())
    if image_size:
        raise UserError("data.image_size has no use with data.source=npz")
    if not folder:
        raise UserError("data.source=npz needs data.dir, an .npz file or a folder of .npy files")
    path = Path(folder)
    if not path.exists():
        raise UserError(f"data.dir={missing(folder)}")
    arrays = _from_folder(path) if path.is_dir() else _from_file(path)
    for key in NPZ[:4]:
        if key not in arrays:
            needed, there = ", ".join(NPZ[:4]), _names(path)
            raise UserError(f"{path} has no array {key}: {needed} are needed, and it has {there}")
    if ("x_validation" in arrays) != ("y_validation" in arrays):
        raise UserError(f"{path} has one of x_validation and y_validation without the other")
    pairs = {x: (arrays[x], arrays[y]) for x, y in PAIRS if x in arrays}
    return Given(pairs["x_train"], pairs["x_test"], pairs.get("x_validation"))


def check_kwargs(source: str, kwargs: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuses arguments that a shipped source does not have.

    Raises:
      UserError: there is one.
    """
    for key in kwargs:
        if key not in known:
            listed = ", ".join(known) or "none"
            raise UserError(f"data.kwargs: source {source!r} has no {key!r} (known: {listed})")


def _pair(name: str, split: str, pair: Any) -> Arrays:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        got = f"{len(pair)} values" if isinstance(pair, tuple | list) else type(pair)
        raise UserError(f"data.source={name}: {split} must be (inputs, targets), not {got}")
    return pair[0], pair[1]


def _names(path: Path) -> str:
    """Returns what is in a folder or in a file of arrays, which has been read."""
    if path.is_dir():
        found = sorted(inner.name for inner in path.iterdir())
    else:
        with zipfile.ZipFile(path) as file:
            found = [name.removesuffix(".npy") for name in file.namelist()]
    more = ", …" if len(found) > 9 else ""
    return ", ".join(found[:9]) + more or "nothing"


def _from_folder(folder: Path) -> dict[str, np.ndarray]:
    files = {key: folder / f"{key}.npy" for key in NPZ}
    return {key: _opened(path, npz.read_one) for key, path in files.items() if path.exists()}


def _from_file(path: Path) -> dict[str, np.ndarray]:
    return _opened(path, lambda path: npz.read(path, NPZ, lambda found: _check_alike(path, found)))


def _opened(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except ValueError as error:
        raise UserError(f"{path} is no readable file of arrays: {error}") from error


def _check_alike(path: Path, headers: Mapping[str, npz.Header]) -> None:
    """Refuses numbers and shapes of examples that differ, before any of them is read."""
    shapes = {key: header.shape for key, header in headers.items()}
    for x, y in PAIRS:
        if x in shapes and y in shapes and shapes[x][:1] != shapes[y][:1]:
            raise UserError(
                f"{path} has {x} of shape {shapes[x]}, but {y} of shape {shapes[y]}: both need as "
                "many examples, along the first axis"
            )
    for first, *others in zip(*PAIRS, strict=True):
        for key in others:
            if {first, key} <= shapes.keys() and shapes[first][1:] != shapes[key][1:]:
                raise UserError(
                    f"{path} has {first} of shape {shapes[first]}, but {key} of shape "
                    f"{shapes[key]}: the examples of all splits must have one shape"
                )
