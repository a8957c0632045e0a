"""Checkpoints that are whole or refused: Orbax's files and a SHA-256 manifest, written last.

Orbax restores flipped bits without a warning; `restore` verifies every byte first.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from groundwork import atomic, jsons
from groundwork.devices import processes
from groundwork.errors import UserError

MANIFEST = "manifest.json"
SPARE_BYTES = 1 << 20  # for metadata, rows and logs
LONGEST = 3500  # bytes of a run's path; Linux allows 4096, and files lie below it
UNUSABLE = {  # what Orbax takes for something else in the name of any folder above
    r"gs:(/|$)": "gs: at the end of a name",
    r"\\|\[[^/]+\]": "\\ or […]",
    r"[\ud800-\udfff]": "bytes that are not UTF-8",
}


class DamagedError(UserError):
    """The bytes of a checkpoint are not those that were written."""


def save(
    folder: Path, tree: Any, metadata: dict[str, Any], origin: dict[str, Any] | None = None
) -> None:
    """Writes a tree of arrays or keys, and JSON metadata; it is whole once the manifest exists.

    All processes write their part of the arrays; the first one writes the rest.

    Args:
      folder: of the checkpoint.
      tree: of arrays or keys.
      metadata: for JSON.
      origin: what the checkpoint belongs to, for JSON; see the function `origin`.

    Raises:
      FileExistsError: a whole checkpoint is there, and nothing is ever overwritten.
      OSError: the disk is full, for example; earlier checkpoints stay as they were.
    """
    processes.on_first(_make_room, folder, _bytes(tree))
    with _full_disk_named(folder), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), tree)
    processes.on_first(_seal, folder, {"metadata": metadata, "origin": origin or {}})


def save_alone(
    folder: Path, tree: Any, metadata: dict[str, Any], origin: dict[str, Any] | None = None
) -> None:
    """Does as `save` does, in this process alone, where all arrays are whole."""
    _make_room(folder, _bytes(tree))
    with _full_disk_named(folder), _checkpointer_of_one() as checkpointer:
        checkpointer.save(folder.absolute(), ocp.args.PyTreeSave(tree))
    _seal(folder, {"metadata": metadata, "origin": origin or {}})


def check_place(folder: Path) -> None:
    """Checks that Orbax can write and read checkpoints below a folder.

    Raises:
      UserError: it cannot; the error has the reason.
    """
    path = str(folder.absolute())
    why = next((what for wrong, what in UNUSABLE.items() if re.search(wrong, path)), "")
    if why:
        path = path.encode(errors="backslashreplace").decode()
        raise UserError(f"{path} has {why}, where checkpoints cannot be: take a folder without")
    if len(os.fsencode(path)) > LONGEST:
        raise UserError(f"{path[:60]}… is a path of over {LONGEST} bytes: take a shorter one")


def exists(folder: Path) -> bool:
    """Returns whether a checkpoint was written here to its end; `verify` checks its bytes."""
    return (folder / MANIFEST).is_file()


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file against the manifest and returns the metadata.

    Raises:
      DamagedError: a file is missing, was added or has changed; the error names it.
    """
    try:
        manifest = jsons.parse((folder / MANIFEST).read_bytes())
        body, digest = manifest["body"], manifest["sha256"]
        files, metadata = dict(body["files"]), dict(body["metadata"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"checkpoint {folder} has no readable {MANIFEST} ({error})") from error
    if _digest_of(body) != digest:
        raise DamagedError(f"checkpoint {folder} is damaged: {MANIFEST} has changed")
    digests = _digests(folder, sync=False)
    for name in sorted(digests.keys() | files.keys()):
        if digests.get(name) != files.get(name):
            raise DamagedError(f"checkpoint {folder} is damaged: {name} is not as it was written")
    return metadata


def metadata(folder: Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint that has been verified."""
    return _body(folder)["metadata"]


def origin(folder: Path) -> dict[str, Any]:
    """Returns what a checkpoint that has been verified belongs to; empty if it does not tell."""
    return _body(folder).get("origin") or {}  # older checkpoints lack it


def restore(folder: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Verifies a checkpoint and returns its tree and metadata.

    Args:
      folder: of the checkpoint.
      like: a tree of arrays with the same structure, whose shardings the result takes; then all
        processes must call this. Without it, this process alone gets nested dicts of NumPy arrays
        (or keys).

    Raises:
      DamagedError: see `verify`; or it holds other arrays than `like`.
      UserError: Orbax cannot read below such a folder.
    """
    check_place(folder)
    if like is not None:
        metadata = processes.on_first(verify, folder)
        return read(folder, like), metadata
    metadata = verify(folder)
    return read_alone(folder), metadata


def read_alone(folder: Path) -> Any:
    """Returns the tree of a checkpoint that has been verified, to this process alone."""
    with ocp.StandardCheckpointer(multiprocessing_options=_this_process()) as checkpointer:
        described = checkpointer.metadata(folder.absolute()).item_metadata.tree
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described)
        return checkpointer.restore(folder.absolute(), like)


def read(folder: Path, like: Any) -> Any:
    """Returns the tree of a checkpoint that has been verified (all processes); see `restore`."""
    with ocp.StandardCheckpointer() as checkpointer:
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return checkpointer.restore(folder.absolute(), like)
        except (ValueError, KeyError, TypeError) as error:  # Orbax's, if it is of another network
            raise DamagedError(f"checkpoint {folder} holds other arrays than it should") from error


def set_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint, which makes room for a new one; returns the new path."""
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.damaged-{number}")):
        number += 1
    return folder.rename(aside)


def remove(path: Path) -> None:
    """Removes a checkpoint, or a file or link in its place; what a link leads to is left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Turns Orbax's error of a disk that fills up meanwhile into that of a full disk."""
    try:
        yield
    except ValueError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _checkpointer_of_one() -> ocp.Checkpointer:
    """Returns what writes all of a checkpoint in this process, where others have the arrays too."""
    # Keys need the store, which Orbax's public names lack.
    from orbax.checkpoint._src.metadata.array_metadata_store import Store

    # By default each process would write its part even of what all have whole.
    arrays = ocp.type_handlers.ArrayHandler(
        use_replica_parallel=False, array_metadata_store=Store()
    )
    handler = ocp.PyTreeCheckpointHandler(
        multiprocessing_options=_this_process(),
        type_handler_registry=ocp.type_handlers.create_type_handler_registry(
            (jax.Array, arrays), (np.ndarray, ocp.type_handlers.NumpyHandler())
        ),
        array_metadata_validator=_OfOneProcess(),
    )
    return ocp.Checkpointer(handler, multiprocessing_options=_this_process())


class _OfOneProcess:
    """Accepts what one process writes: Orbax would miss the notes of the others."""

    def validate_all_array_metadatas(self, array_metadatas: Any) -> None:
        """Does nothing: there are no notes to compare."""


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Returns what lets Orbax read and write in this process, without the others."""
    process = processes.index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


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


def _seal(folder: Path, about: dict[str, Any]) -> None:
    """Flushes all files to the disk and writes the manifest."""
    body = {**about, "files": _digests(folder)}
    for inside in (*(path for path in folder.rglob("*") if path.is_dir()), folder, folder.parent):
        atomic.sync_folder(inside)
    atomic.write(folder / MANIFEST, json.dumps({"body": body, "sha256": _digest_of(body)}))


def _clear(folder: Path) -> None:
    """Removes what an interrupted save left: a folder without manifest, Orbax's temporary files.

    What no save leaves, a file or a link, is renamed.
    """
    for rest in (folder, *folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*")):
        if rest.is_symlink() or rest.is_file():
            set_aside(rest)
        elif rest.exists():
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


def _body(folder: Path) -> dict[str, Any]:
    return jsons.parse((folder / MANIFEST).read_bytes())["body"]


def _digest_of(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
