"""A run is a folder of named units of work; the same command continues it.

config.json       resolved config, versions, git commit: written once, never changed
starts.jsonl      one line each time a command opened the run
metrics.jsonl     one row an evaluation
run.log           what the terminal said
checkpoints/UNIT/final          exists whole = the unit is done
checkpoints/UNIT/step-00000100  while it is not
figures/*.png, report.html
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiment import checkpoint, metrics
from experiment.config import flatten
from experiment.errors import UserError

VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
NOT_IDENTITY = ("mesh.", "data.dir", "log.", "checkpoint.", "published")
KEPT_STEPS = 2  # checkpoints of an unfinished unit: the newest, and one to fall back to


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run folder."""

    folder: Path
    mirror: Callable[[list[metrics.Row]], None] | None = None  # where else rows go: TensorBoard

    def record(self, rows: list[metrics.Row]) -> None:
        """Append rows to the metrics."""
        metrics.append(self.metrics, rows)
        if self.mirror:
            self.mirror(rows)

    @property
    def metrics(self) -> Path:
        """The file of rows."""
        return self.folder / "metrics.jsonl"

    def unit(self, name: str) -> "Unit":
        """The unit of work with this name, e.g. `levels/03/ticket`."""
        return Unit(self, name)

    def units(self) -> list[str]:
        """Names of the finished units, sorted."""
        root = self.folder / "checkpoints"
        final = (path for path in root.rglob("final") if checkpoint.exists(path))
        return sorted(path.parent.relative_to(root).as_posix() for path in final)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of work of a run: done, begun, or not begun."""

    run: Run
    name: str

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return self.run.folder / "checkpoints" / self.name

    @property
    def done(self) -> bool:
        """Has it been finished?"""
        return checkpoint.exists(self.folder / "final")

    def finish(self, tree: Any, metadata: dict[str, Any]) -> None:
        """Save the result. From here on the unit is done, and its other checkpoints go."""
        metrics.sync(self.run.metrics)
        checkpoint.save(self.folder / "final", tree, metadata)
        self.tidy()

    def result(self, like: Any = None) -> tuple[Any, dict[str, Any]]:
        """Tree and metadata that `finish` was given, verified."""
        return checkpoint.restore(self.folder / "final", like)

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Save where an unfinished unit stands."""
        metrics.sync(self.run.metrics)
        checkpoint.save(self.folder / f"step-{step:08d}", tree, metadata)
        for folder in self._steps()[:-KEPT_STEPS]:
            shutil.rmtree(folder)

    def latest(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole checkpoint of an unfinished unit; damaged ones are set aside, aloud."""
        for folder in reversed(self._steps()):
            try:
                return checkpoint.restore(folder, like)
            except checkpoint.DamagedError as error:
                checkpoint.set_aside(folder)
                warn(f"{error}; it is set aside, and the one before it is used")
        return None

    def tidy(self) -> None:
        """Remove what a finished unit no longer needs, also of saves that were cut off."""
        for rest in self.folder.glob("step-*"):
            if ".damaged-" not in rest.name:
                shutil.rmtree(rest)

    def _steps(self) -> list[Path]:
        steps = (path for path in self.folder.glob("step-????????") if checkpoint.exists(path))
        return sorted(steps)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold it: two processes in one run would undo each other's rows.

    Raises:
      UserError: it is a file, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is a file, not a folder: give another --workdir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{folder} is in use by another process: wait for it, or stop it") from None
    finally:
        os.close(descriptor)


def open_run(
    folder: Path,
    config: Mapping[str, Any],
    extendable: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
) -> tuple[Run, list[str]]:
    """Begin a run in `folder`, or go on with the one that is there.

    A run's identity is its config without mesh, data folder, checkpointing and logging, and
    without the keys in `extendable`, whose larger value extends the run. `facts` are recorded
    beside it: what else bits depend on, such as the devices and the data's digest.

    Returns:
      The run, and warnings: versions, commit or facts other than those it was begun with, and
      finished units whose checkpoints turned out damaged (they are set aside and done again).

    Raises:
      UserError: the folder holds a run of another identity, or something else.
    """
    about = {"versions": _versions(), "commit": _commit(), **(facts or {})}
    now: dict[str, Any] = {"config": dict(config), **about}
    path = folder / "config.json"
    warnings = []
    if path.exists():
        began = read_about(folder)
        _refuse_other(folder, began["config"], now["config"], extendable)
        for name, fact in about.items():
            if began.get(name) != fact:
                warnings.append(f"this run began with {name} {began.get(name)}, now {fact}")
    elif folder.is_dir() and any(p.name != f"{path.name}.part" for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no run: give another --workdir")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_atomically(path, json.dumps(now, indent=1))
    start = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "argv": sys.argv[1:], **now}
    metrics.append(folder / "starts.jsonl", [start])
    mirror = metrics.tensorboard(folder / "tensorboard") if config["log"]["tensorboard"] else None
    run = Run(folder, mirror)
    for name in run.units():
        run.unit(name).tidy()
        final = run.unit(name).folder / "final"
        try:
            checkpoint.verify(final)
        except checkpoint.DamagedError as error:
            checkpoint.set_aside(final)
            warnings.append(f"{error}; it is set aside, and {name} is done again")
    return run, warnings


def read_about(folder: Path) -> dict[str, Any]:
    """The config, versions and commit with which a run began.

    Raises:
      UserError: there is no run.
    """
    path = folder / "config.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable run: {path.name}: {error}") from error
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UserError(f"{folder} holds no readable run: {path.name} has no config")
    return about


def check_identity(folder: Path, config: Mapping[str, Any], extendable: tuple[str, ...]) -> None:
    """Refuse a config that is not the one of the run in `folder`; opens nothing.

    Raises:
      UserError: there is no run, or one of another identity (see `open_run`).
    """
    _refuse_other(folder, read_about(folder)["config"], config, extendable)


def _refuse_other(
    folder: Path, began: Mapping[str, Any], now: Mapping[str, Any], extendable: tuple[str, ...]
) -> None:
    before, after = (
        {key: value for key, value in flatten(config).items() if not _ignored(key, extendable)}
        for config in (began, json.loads(json.dumps(now)))
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


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {"python": sys.version.split()[0], **versions}


def _commit() -> str:
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
