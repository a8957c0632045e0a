"""The folder of a user's own loop: levels that are done are read, and all others made and saved.

iterate.json                           what made the levels; written once, never changed
checkpoints/start/final                the parameters at the rewind step, if there is a warm-up
checkpoints/levels/03/ticket/final     mask, rewound and trained as flat dicts, path → array
"""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from groundwork import atomic, config, jsons, paths
from groundwork.runs import checkpoint, identity
from groundwork.runs.run import Run, locked
from groundwork.trees import flatten, unflatten
from lottery.own_loop.trees import digest

FILE = "iterate.json"
LISTED = 4  # differing arguments in an error

Trees = tuple[Any, ...]
Keep = Callable[[str, Callable[[], Trees], Trees], Trees]
"""(name, function, the trees before) → the trees that the function makes, or has made.

Each tree that is made has the structure, shapes and dtypes of the tree before at its place.
"""


def opened(folder: str | Path, arguments: Mapping[str, Any]) -> Keep:
    """Begins a folder, or opens one that the same arguments began.

    Raises:
      ValueError: it holds levels of other arguments, or other files.
      UserError: another process works in it.
    """
    if not isinstance(folder, str | Path):
        raise ValueError(f"folder must be a path, not {folder!r}")
    if jax.process_count() > 1:
        raise ValueError("folder= is for a single process: leave it out, and save what you need")
    folder = paths.given(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    with locked(folder):
        _begin(folder, arguments)
    return functools.partial(_keep, Run(folder))


def _keep(run: Run, name: str, make: Callable[[], Trees], before: Trees) -> Trees:
    """See `Keep`. The folder is locked meanwhile, not while the user's loop has the level."""
    unit, made_of = run.unit(name), digest(before)
    with locked(run.folder):
        if unit.done:
            return _read(run, name, before, made_of)
        made = make()
        flat = tuple(flatten(tree) for tree in made)
        checkpoint.save(unit.folder / "final", flat, {"before": made_of})
        return made


def _read(run: Run, name: str, like: Trees, made_of: str) -> Trees:
    """Returns the trees of a unit that is done.

    Raises:
      DamagedError: its bytes have changed.
      ValueError: what it was made of has changed.
    """
    unit = run.unit(name)
    try:
        flat_like = tuple(flatten(tree) for tree in like)
        flat, metadata = checkpoint.restore(unit.folder / "final", flat_like)
    except checkpoint.DamagedError as error:
        remedy = f"remove {unit.folder} and call again, and it is made again"
        raise checkpoint.DamagedError(f"{error}; {remedy}") from error
    if metadata.get("before") != made_of:
        raise ValueError(
            f"{unit.folder} was made of another level than the one before it: remove it and call "
            "again, and it is made again"
        )
    return tuple(unflatten(leaves, old) for leaves, old in zip(flat, like, strict=True))


def _begin(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Writes what makes the levels, or compares it."""
    path = folder / FILE
    if not path.exists():
        if any(inside.name != f"{FILE}.part" for inside in folder.iterdir()):
            raise ValueError(f"{folder} is not empty and holds no levels of iterate")
        about = {"arguments": arguments, "versions": identity.versions()}
        atomic.write(path, json.dumps(about, indent=1))
        return
    try:
        there = config.flatten(jsons.parse(path.read_bytes())["arguments"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not readable: {error!r}") from error
    here = config.flatten(json.loads(json.dumps(arguments)))
    differing = [
        key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)
    ]
    if differing:
        listed = [f"{key} is {there.get(key)} there, {here.get(key)} here" for key in differing]
        more = f"; and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        raise ValueError(
            f"{folder} holds levels of other arguments: {'; '.join(listed[:LISTED])}{more}; give "
            "another folder, or these arguments"
        )
