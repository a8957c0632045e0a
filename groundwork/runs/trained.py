"""Variables of networks that were trained before: those of a run, or a file of weights."""

# R replicates

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import buckets, copies, named, paths, trees
from groundwork.architectures import pretrained
from groundwork.errors import UserError
from groundwork.numerics import npz
from groundwork.runs import identity, run
from groundwork.trees import Params, Shapes, Variables

INPUTS = ("name", "classes", "pad", "standardize", "mean", "std", "image_size")  # of data
OWN = ("source", "kwargs")  # of data that a function of the user's own gives
HELD_OUT = ("validation_examples", "split_seed")  # of data: choose the validation examples


def load(path: str | Path, unit: str, shapes: Shapes | None = None, model: Any = None) -> Variables:
    """Returns the variables that a finished unit of a run, or a file, holds.

    Args:
      path: the folder of a run, here or in a bucket; an `.npz` file whose arrays are named by
        their path, such as `params/fc1/kernel`; or a file of PyTorch's weights, see
        `architectures.pretrained`, for which shapes and model are needed. Nothing in a file is
        executed.
      unit: of the run, such as `levels/00/ticket`.
      shapes: of the network's variables, if they are known: no array of a file is read before all
        of them have these shapes, or these behind a replicate axis.
      model: the network, if it is known.

    Returns:
      Nested dicts of NumPy arrays; those of a run have a leading replicate axis.

    Raises:
      UserError: the file, run or unit does not exist, or is damaged, or holds no variables; or a
        file holds those of another network.

    Example:
        >>> from groundwork.runs import trained
        >>> trained.save("network.npz", {"params": {"fc1": {"kernel": np.array([1.0, 2.0])}}})
        >>> variables = trained.load("network.npz", unit="")  # a file has no units
        >>> variables["params"]["fc1"]["kernel"].tolist()
        [1.0, 2.0]
    """
    if pretrained.is_file(path):
        near = pretrained.near(path)
        if model is None or (near.suffix == ".npz" and _is_ours(near)):
            return _from_file(near, shapes)
        return pretrained.read(model, path, shapes)
    if not buckets.is_url(path) and paths.given(path).is_file():
        suffixes = ", ".join(pretrained.SUFFIXES)
        raise UserError(f"{path} is neither the folder of a run nor a file of weights ({suffixes})")
    variables = _unit(path, unit).get("variables")
    if not isinstance(variables, dict) or "params" not in variables:
        raise UserError(f"{unit} of {path} holds no variables of a network")
    return variables


def mask(path: str | Path, unit: str, params: Params) -> dict[str, np.ndarray] | None:
    """Returns the mask that a finished unit of a run holds beside its variables.

    Args:
      path: see `load`; files hold no mask.
      unit: see `load`.
      params: that the unit holds, with their replicate axis, [R, …].

    Returns:
      Path → [R, …] bool, True = kept; None where the unit has no mask.

    Raises:
      UserError: see `load`; or the mask is not one of these parameters, or a pruned one is not 0.
    """
    held = None if pretrained.is_file(path) else _unit(path, unit).get("mask")
    if held is None:
        return None
    leaves = trees.flatten(params)
    for name, kept in held.items():
        leaf = leaves.get(name)
        if leaf is None or kept.shape != leaf.shape or kept.dtype != bool or leaf[~kept].any():
            raise UserError(f"{unit} of {path}: its mask of {name} does not fit its parameters")
    return held


def source(path: str, unit: str, model: Any, shapes: Shapes, replicates: int) -> Variables:
    """Returns the variables [R, …] of the network that a config's section `source` names.

    Args:
      path: see `load`.
      unit: see `load`.
      model: see `load`.
      shapes: see `replicated`.
      replicates: R.

    Raises:
      UserError: see `load` and `replicated`; it names `source.path`.
    """
    try:
        return replicated(load(path, unit, shapes, model), shapes, replicates, path)
    except UserError as error:
        raise UserError(f"source.path: {error}") from error


def check_data(path: str | Path, data: Mapping[str, Any], key: str, apart: bool = False) -> None:
    """Checks that a run's network was trained on the inputs of this config; files do not tell.

    Args:
      path: see `load`.
      data: a section of a config.
      key: the config's key that has the path, such as `source.path`.
      apart: whether the validation examples must be the same, too. If the network was trained on
        them, whatever is chosen by them would look better than it is.

    Raises:
      UserError: a key of the data differs, which the error names; or there is no run.
    """
    if pretrained.is_file(path):
        return
    folder = copies.near(path, identity.FILE)
    theirs = identity.section(folder, identity.read_about(folder), "data")
    split = HELD_OUT if apart and data["validation_examples"] else ()
    own = any(named.is_own(section.get("source")) for section in (data, theirs))
    for name in (*INPUTS, *split, *(OWN if own else ())):
        here = _plain(data.get(name, identity.ADDED.get(f"data.{name}")))
        there = theirs.get(name, identity.ADDED.get(f"data.{name}"))
        if there != here:
            raise UserError(
                f"{key}: {path} was trained with data.{name}={there!r}, not {here!r}: set it so, "
                "or name another run"
            )


def save(path: str | Path, variables: Variables) -> None:
    """Writes an `.npz` file that `load` reads.

    Example:
        >>> from groundwork.runs import trained
        >>> params = {"fc1": {"kernel": np.ones((2, 3)), "bias": np.zeros(3)}}
        >>> trained.save("network.npz", {"params": params})
        >>> sorted(np.load("network.npz").files)
        ['params/fc1/bias', 'params/fc1/kernel']
    """
    np.savez(paths.given(path), **trees.flatten(variables))


def size(variables: Variables) -> int:
    """Returns the bytes of the file that `save` writes."""
    with tempfile.TemporaryFile() as file:
        np.savez(file, **trees.flatten(variables))
        return file.tell()


def replicated(variables: Variables, shapes: Shapes, replicates: int, where: str) -> Variables:
    """Returns variables with a leading replicate axis, checked against a network's shapes.

    Args:
      variables: see `load`; each leaf may have a leading replicate axis.
      shapes: of the network's variables, without that axis.
      replicates: R; leaves without the axis are repeated R times.
      where: the place of the variables, for errors.

    Raises:
      UserError: leaves, shapes or replicates differ, or entries are not finite.
    """
    given, wanted = trees.flatten(variables), trees.flatten(shapes)
    _check_names(given, wanted, where)
    counts = {leaf.shape[:1] for name, leaf in given.items() if leaf.ndim > wanted[name].ndim}
    if len(counts) == 1 and counts != {(replicates,)}:
        ((count,),) = counts
        raise UserError(
            f"{where} holds {count} replicates, not {replicates}: set replicates={count}"
        )
    checked = {}
    for name, leaf in given.items():
        shape = tuple(wanted[name].shape)
        if leaf.shape == shape:
            leaf = np.broadcast_to(leaf, (replicates, *shape))
        if leaf.shape != (replicates, *shape):
            raise UserError(
                f"{where}: {name} has the shape {leaf.shape}, not {shape} or {(replicates, *shape)}"
            )
        if not np.issubdtype(leaf.dtype, np.floating):
            raise UserError(f"{where}: {name} is of {leaf.dtype}, not of floats")
        if not np.isfinite(leaf).all():
            raise UserError(
                f"{where}: {np.sum(~np.isfinite(leaf))} entries of {name} are not finite"
            )
        checked[name] = leaf.astype(wanted[name].dtype)
    return trees.unflatten(checked, shapes)


def _unit(path: str | Path, unit: str) -> dict[str, Any]:
    """Returns the result of a unit of a run by name; a ticket is mask, rewound, and trained."""
    identity.read_about(copies.near(path, identity.FILE))
    tree = run.result_of(path, unit)
    if isinstance(tree, list | tuple) and tree:  # the last one is trained
        return {"mask": tree[0] if len(tree) == 3 else None, "variables": tree[-1]}
    return tree if isinstance(tree, dict) else {}


def _is_ours(path: Path) -> bool:
    """Returns whether an .npz file has our names, not PyTorch's."""
    try:
        return any(name.startswith("params/") for name in npz.names(path))
    except ValueError:  # which reading the file says better
        return True


def _from_file(path: Path, shapes: Shapes | None) -> Variables:
    if path.suffix != ".npz":
        raise UserError(f"{path} has PyTorch's weights, which serve shipped networks alone")

    def check(headers: Mapping[str, npz.Header]) -> None:
        if not any(name.startswith("params/") for name in headers):
            raise UserError(f"{path} has no arrays named params/…")
        if shapes is not None:
            wanted = trees.flatten(shapes)
            _check_names(headers, wanted, str(path))
            for name, header in headers.items():
                shape = tuple(wanted[name].shape)
                if header.shape not in (shape, (*header.shape[:1], *shape)):
                    raise UserError(
                        f"{path}: {name} has the shape {header.shape}, not {shape} or (R, …) of it"
                    )

    try:
        flat = npz.read(path, check=check)
    except ValueError as error:
        raise UserError(f"{path} is no readable file of arrays: {error}") from error
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{path}: {name} lies inside an array")
        if last in inner:
            raise UserError(f"{path}: {name} is an array, and has others inside")
        inner[last] = array
    return tree


def _check_names(given: Iterable[str], wanted: Iterable[str], where: str) -> None:
    differing = sorted({*given} ^ {*wanted})
    if differing:
        more = f" and {len(differing) - 10} more" if len(differing) > 10 else ""
        raise UserError(
            f"{where} holds another network than the config's: {', '.join(differing[:10])}{more} "
            "differ"
        )


def _plain(value: Any) -> Any:
    """Returns the value as config.json has it."""
    return list(value) if isinstance(value, tuple) else value
