"""Checkpoints that are whole or refused: Orbax's files and a SHA-256 manifest, written last.

Orbax restores flipped bits without a warning; `restore` verifies every byte first.
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
SPARE_BYTES = 1 << 20  # for metadata, rows and logs


class DamagedError(UserError):
    """The bytes of a checkpoint are not those that were written."""


def save(folder: Path, tree: Any, metadata: dict[str, Any]) -> None:
    """Writes a tree of arrays or keys, and JSON metadata; it is whole once the manifest exists.

    All processes write their part of the arrays; the first one writes the rest.

    Raises:
      FileExistsError: a whole checkpoint is there, and nothing is ever overwritten.
      OSError: the disk is full, for example; earlier checkpoints stay as they were.
    """
    processes.on_first(_make_room, folder, sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), tree)
    except ValueError as error:  # Orbax's, when the disk fills up meanwhile
        if "RESOURCE_EXHAUSTED" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    processes.on_first(_seal, folder, metadata)


def exists(folder: Path) -> bool:
    """Returns whether a checkpoint was written here to its end; `verify` checks its bytes."""
    return (folder / MANIFEST).is_file()


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file against the manifest and returns the metadata.

    Raises:
      DamagedError: a file is missing, was added or has changed; the error names it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        body, digest = manifest["body"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"checkpoint {folder} has no readable {MANIFEST} ({error})") from error
    if _digest_of(body) != digest:
        raise DamagedError(f"checkpoint {folder} is damaged: {MANIFEST} has changed")
    digests = _digests(folder, sync=False)
    for name in sorted(digests.keys() | body["files"].keys()):
        if digests.get(name) != body["files"].get(name):
            raise DamagedError(f"checkpoint {folder} is damaged: {name} is not as it was written")
    return body["metadata"]


def metadata(folder: Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint that has been verified."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["body"]["metadata"]


def restore(folder: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Verifies a checkpoint and returns its tree and metadata.

    Args:
      folder: of the checkpoint.
      like: a tree of arrays with the same structure, whose shardings the result takes; then all
        processes must call this. Without it, this process alone gets nested dicts of NumPy arrays
        (or keys).

    Raises:
      DamagedError: see `verify`.
    """
    if like is not None:
        metadata = processes.on_first(verify, folder)
        return read(folder, like), metadata
    metadata = verify(folder)
    process = processes.index()
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
        described = checkpointer.metadata(folder.absolute()).item_metadata.tree
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described)
        return checkpointer.restore(folder.absolute(), like), metadata


def read(folder: Path, like: Any) -> Any:
    """Returns the tree of a checkpoint that has been verified (all processes); see `restore`."""
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return checkpointer.restore(folder.absolute(), like)


def set_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint, which makes room for a new one; returns the new path."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _make_room(folder: Path, tree_bytes: int) -> None:
    """Refuses a tree that will not fit on the disk: Orbax fails late and leaves files behind."""
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
    """Flushes all files to the disk and writes the manifest."""
    body = {"metadata": metadata, "files": _digests(folder)}
    for inside in (*(path for path in folder.rglob("*") if path.is_dir()), folder, folder.parent):
        atomic.sync_folder(inside)
    atomic.write(folder / MANIFEST, json.dumps({"body": body, "sha256": _digest_of(body)}))


def _clear(folder: Path) -> None:
    """Removes what an interrupted save left: a folder without manifest, Orbax's temporary files."""
    for rest in (folder, *folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*")):
        if rest.exists():
            shutil.rmtree(rest)


def _digests(folder: Path, sync: bool = True) -> dict[str, str]:
    """Returns the SHA-256 of every file but the manifest, by relative path."""
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
