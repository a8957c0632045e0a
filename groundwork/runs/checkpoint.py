"""Checkpoints that are whole or refused: Orbax's files and a SHA-256 manifest, written last.

Orbax restores a file with flipped bits without a word; `restore` verifies every byte first.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from groundwork import atomic
from groundwork.devices import processes
from groundwork.errors import UserError

MANIFEST = "manifest.json"
SPARE_BYTES = 1 << 20  # for metadata, and for the rows and logs beside it


class DamagedError(UserError):
    """A checkpoint whose bytes are not the ones that were written."""


def save(folder: Path, tree: Any, metadata: dict[str, Any]) -> None:
    """Write a tree of arrays (keys included) and JSON metadata; whole once the manifest exists.

    All processes write their own part of the arrays, the first one the rest.

    Raises:
      FileExistsError: a whole checkpoint is there: nothing is ever overwritten.
      OSError: the disk is full, for instance; checkpoints written earlier stay as they were.
    """
    processes.on_first(_make_room, folder, sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), tree)
    except ValueError as error:  # what Orbax makes of a disk that fills up meanwhile
        if "RESOURCE_EXHAUSTED" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    processes.on_first(_seal, folder, metadata)


def exists(folder: Path) -> bool:
    """Was a checkpoint written here to its end? (Not: is it still undamaged; see `verify`.)"""
    return (folder / MANIFEST).is_file()


def verify(folder: Path) -> dict[str, Any]:
    """Check every file against the manifest and return the metadata.

    Raises:
      DamagedError: a file is missing, was added or has changed; names it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        body, digest = manifest["body"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"checkpoint {folder} has no readable {MANIFEST} ({error})") from error
    if _digest_of(body) != digest:
        raise DamagedError(f"checkpoint {folder} is damaged: {MANIFEST} has changed")
    found = _digests(folder, sync=False)
    for name in sorted(found.keys() | body["files"].keys()):
        if found.get(name) != body["files"].get(name):
            raise DamagedError(f"checkpoint {folder} is damaged: {name} is not as it was written")
    return body["metadata"]


def metadata(folder: Path) -> dict[str, Any]:
    """Of a checkpoint that has been verified."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["body"]["metadata"]


def restore(folder: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """The tree and the metadata of a verified checkpoint.

    Args:
      folder: what was given to `save`.
      like: a tree of arrays with the same structure, whose shardings the result takes (all
        processes); without it, nested dicts of numpy arrays (or keys), for this process alone.

    Raises:
      DamagedError: see `verify`.
    """
    if like is not None:
        metadata = processes.on_first(verify, folder)
        return read(folder, like), metadata
    metadata = verify(folder)
    own = processes.index()
    alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
        described = checkpointer.metadata(folder.absolute()).item_metadata.tree
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described)
        return checkpointer.restore(folder.absolute(), like), metadata


def read(folder: Path, like: Any) -> Any:
    """The tree of a checkpoint that has been verified (all processes); see `restore`."""
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return checkpointer.restore(folder.absolute(), like)


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that it can be looked at and a new one written."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _make_room(folder: Path, tree_bytes: int) -> None:
    """Refuse to begin what will not fit: Orbax's own way of failing is long and untidy."""
    if exists(folder):
        raise FileExistsError(f"{folder} is already written, and nothing is ever overwritten")
    _clear(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed = SPARE_BYTES + tree_bytes
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        reason = f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes needed, {free:,} free"
        raise OSError(errno.ENOSPC, reason, str(folder))


def _seal(folder: Path, metadata: dict[str, Any]) -> None:
    """Flush everything to the disk and write the manifest."""
    body = {"metadata": metadata, "files": _digests(folder)}
    for inside in (*(path for path in folder.rglob("*") if path.is_dir()), folder, folder.parent):
        atomic.sync_folder(inside)
    atomic.write(folder / MANIFEST, json.dumps({"body": body, "sha256": _digest_of(body)}))


def _clear(folder: Path) -> None:
    """Remove what a save that was cut off left: the folder without manifest, Orbax's own parts."""
    for rest in (folder, *folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*")):
        if rest.exists():
            shutil.rmtree(rest)


def _digests(folder: Path, sync: bool = True) -> dict[str, str]:
    """SHA-256 by relative path of every file but the manifest, flushed to the disk first."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(MANIFEST):
            continue
        with open(path, "rb") as file:
            if sync:
                os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _digest_of(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
