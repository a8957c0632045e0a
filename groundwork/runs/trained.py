"""Variables of networks that were trained before: a run's, or a file of arrays."""

# R replicates

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from groundwork.errors import UserError
from groundwork.runs import identity, run

INPUTS = ("name", "pad", "standardize", "mean", "std", "image_size")  # of data: what inputs are
HELD_OUT = ("validation_examples", "split_seed")  # of data: which images are for validation


def load(path: str | Path, unit: str) -> Any:
    """The variables that a finished unit of a run, or a file, holds.

    Args:
      path: a run's folder; or an `.npz` file whose arrays are named by their place, as
        `params/fc1/kernel`. What it holds is data: nothing of it is executed.
      unit: of the run, such as `levels/00/ticket`.

    Returns:
      Nested dicts of numpy arrays: a run's with a leading replicate axis.

    Raises:
      UserError: there is no such file, run or unit (lists those there are), or it is damaged.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _from_file(path)
    if path.is_file():
        raise UserError(f"{path} is neither the folder of a run nor an .npz file")
    identity.read_about(path)
    tree = run.result_of(path, unit)
    found = tree.get("variables") if isinstance(tree, dict) else tree[-1]  # a ticket's are its last
    if not isinstance(found, dict) or "params" not in found:
        raise UserError(f"{unit} of {path} holds no variables of a network")
    return found


def check_data(path: str | Path, data: Mapping[str, Any], what: str, apart: bool = False) -> None:
    """Refuse a run whose network was trained on other inputs than these; files say nothing of it.

    Args:
      path: as for `load`.
      data: section of a config.
      what: names the path in errors, as `source.path`.
      apart: refuse also one that was trained on images which here are validation images: what
        is chosen on them would look better than it is.

    Raises:
      UserError: names the key that differs; or there is no run.
    """
    if Path(path).suffix == ".npz":
        return
    theirs = identity.read_about(Path(path))["config"]["data"]
    split = HELD_OUT if apart and data["validation_examples"] else ()
    for key in (*INPUTS, *split):
        own, there = _plain(data[key]), theirs.get(key, identity.ADDED.get(f"data.{key}"))
        if there != own:
            raise UserError(
                f"{what}: {path} was trained with data.{key}={there!r}, not {own!r}: set it so, or "
                "name another run"
            )


def save(path: str | Path, variables: Any) -> None:
    """Write an `.npz` file that `load` reads."""
    flat = {
        "/".join(str(key.key) for key in keys): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    np.savez(path, **flat)  # type: ignore[arg-type]


def replicated(variables: Any, shapes: Any, replicates: int, where: str) -> Any:
    """The variables with a leading replicate axis, checked against the network's shapes.

    Args:
      variables: what `load` gave; leaves with the shapes, or with a replicate axis before them.
      shapes: of the network's variables, without that axis.
      replicates: R; variables without the axis are taken R times.
      where: what errors call their place.

    Raises:
      UserError: other leaves, shapes or replicates; entries that are not finite.
    """
    given, wanted = _flat(variables), _flat(shapes)
    if given.keys() != wanted.keys():
        differing = ", ".join(sorted(given.keys() ^ wanted.keys()))
        raise UserError(f"{where} holds another network than the config's: {differing} differ")
    counts = {leaf.shape[:1] for name, leaf in given.items() if leaf.ndim > wanted[name].ndim}
    if len(counts) == 1 and counts != {(replicates,)}:
        (found_count,) = counts.pop()
        raise UserError(
            f"{where} holds {found_count} replicates, not {replicates}: set "
            f"replicates={found_count}"
        )
    found = {}
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
        found[name] = leaf.astype(wanted[name].dtype)
    structure = jax.tree.structure(shapes)
    return jax.tree.unflatten(structure, [found[name] for name in wanted])


def _from_file(path: Path) -> Any:
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except OSError as error:
        raise UserError(f"{path} is no readable file of arrays: {error}") from error
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = "it is damaged, or has more than arrays of numbers in it"  # NumPy's is misleading
        raise UserError(f"{path} is no readable file of arrays: {reason}") from error
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{path}: {name} lies inside an array")
        inner[last] = array
    if "params" not in tree:
        raise UserError(f"{path} has no arrays named params/…")
    return tree


def _plain(value: Any) -> Any:
    """As config.json has it."""
    return list(value) if isinstance(value, tuple) else value


def _flat(tree: Any) -> dict[str, Any]:
    return {
        "/".join(str(key.key) for key in keys): leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
