"""What makes a run the same run: its config, without what may change on the way.

Beside it, in config.json, is what bits depend on, versions and commit: a change there warns.
"""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundwork.config import flatten
from groundwork.errors import UserError

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "pillow")
NOT_IDENTITY = ("mesh.", "data.dir", "data.workers", "log.", "checkpoint.", "published")
ADDED = {  # keys that older runs lack, with what they meant then
    "model.dtype": "float32",
    "data.pad": 0,
    "data.stream": False,
    "data.test_split": "test",
    "data.image_size": 0,
    "data.augment": "none",
    "data.mean": [],
    "data.std": [],
}


def read_about(folder: Path, having: str = "") -> dict[str, Any]:
    """The config, versions and commit with which a run began.

    Args:
      folder: of the run.
      having: a key of its config which runs of other commands lack.

    Raises:
      UserError: there is no run, or one of another command.
    """
    path = folder / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable run: {path.name}: {error}") from error
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UserError(f"{folder} holds no readable run: {path.name} has no config")
    if having and having not in about["config"]:
        raise UserError(
            f"{folder} holds a run of another command: its config has no {having!r}; give it to "
            "that one"
        )
    return about


def check_identity(folder: Path, config: Mapping[str, Any], extendable: tuple[str, ...]) -> None:
    """Refuse a config that is not the one of the run in `folder`; opens nothing.

    Raises:
      UserError: there is no run, or one of another identity (see `open_run`).
    """
    refuse_other(folder, read_about(folder)["config"], config, extendable)


def refuse_other(
    folder: Path, began: Mapping[str, Any], now: Mapping[str, Any], extendable: tuple[str, ...]
) -> None:
    """Refuse the config `now` in the folder of a run that `began` with another one.

    Raises:
      UserError: names every key that differs, or those that a run of another command lacks.
    """
    if began.keys() - now.keys() and now.keys() - began.keys():
        lacking = ", ".join(sorted(now.keys() - began.keys()))
        raise UserError(
            f"{folder} holds a run of another command: its config has no {lacking}. Give another "
            "--workdir"
        )
    there, here = flatten(began), flatten(json.loads(json.dumps(now)))
    there = {key: value for key, value in ADDED.items() if key in here} | there
    before, after = (
        {key: value for key, value in flat.items() if not _ignored(key, extendable)}
        for flat in (there, here)
    )
    differing = [
        key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)
    ]
    if differing:
        said = "; ".join(f"{k} is {before.get(k)} there, {after.get(k)} here" for k in differing)
        raise UserError(
            f"{folder} holds another run: {said}. Give another --workdir, or its config"
        )


def _ignored(key: str, extendable: tuple[str, ...]) -> bool:
    return any(
        key == name or key.startswith(name.rstrip(".") + ".") for name in NOT_IDENTITY + extendable
    )


def software() -> dict[str, Any]:
    """Versions and commit."""
    return {"versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Of Python and of what results depend on."""
    versions = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {"python": sys.version.split()[0], **versions}


def commit() -> str:
    """The commit of this code, with + where files have changed; "unknown" outside a checkout."""
    here = Path(__file__).parent
    command = [
        "git",
        "-C",
        str(here),
        "describe",
        "--always",
        "--dirty=+",
        "--exclude=*",
        "--abbrev=12",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
