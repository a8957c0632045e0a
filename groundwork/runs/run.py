"""A run is a folder of named units of work; the same command continues it.

config.json       command, resolved config, versions, git commit: written once, never changed
starts.jsonl      one line for each time that a command opened the run
metrics.jsonl     one row per evaluation and replicate
run.log           what the terminal said
checkpoints/UNIT/final          exists whole = the unit is done
checkpoints/UNIT/step-00000100  while it is not
figures/*.png, report.html
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from groundwork import atomic
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs import checkpoint, metrics
from groundwork.runs.identity import Identity, read_about, refuse_other, software

KEPT_STEPS = 2  # checkpoints of an unfinished unit: the newest, and one to fall back to


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run folder. Where a docstring says "all processes", each of them calls it."""

    folder: Path
    mirror: Callable[[list[metrics.Row]], None] | None = None  # sends rows to TensorBoard, too

    def record(self, rows: list[metrics.Row]) -> None:
        """Append rows to the metrics, in the first process."""
        if processes.first():
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
        """Save the result (all processes). Then the unit is done, and its other checkpoints go."""
        processes.on_first(metrics.sync, self.run.metrics)
        checkpoint.save(self.folder / "final", tree, metadata)
        processes.on_first(self.tidy)

    def result(self, like: Any = None) -> tuple[Any, dict[str, Any]]:
        """Returns the tree and metadata that `finish` was given, verified (all processes)."""
        return checkpoint.restore(self.folder / "final", like)

    def begin_again(self, rows: int) -> None:
        """Drop the unit's rows after the first `rows`, since what follows is done again."""
        processes.on_first(metrics.keep, self.run.metrics, self.name, rows)

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Save where an unfinished unit stands (all processes)."""
        processes.on_first(metrics.sync, self.run.metrics)
        checkpoint.save(self.folder / f"step-{step:08d}", tree, metadata)
        processes.on_first(self._forget)

    def latest(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest whole checkpoint of an unfinished unit, if any; damaged ones go aside.

        All processes.
        """
        name, metadata, warnings = processes.on_first(self._newest)
        for warning in warnings:
            warn(warning)
        return (checkpoint.read(self.folder / name, like), metadata) if name else None

    def set_aside(self) -> bool:
        """Rename its checkpoints, so that it is done again (one process). Were there any?"""
        final = self.folder / "final"
        there = [*self._steps(), *([final] if checkpoint.exists(final) else [])]
        for folder in there:
            checkpoint.set_aside(folder)
        return bool(there)

    def tidy(self) -> None:
        """Remove what a finished unit no longer needs, and what cut-off saves left."""
        for rest in self.folder.glob("step-*"):
            if ".damaged-" not in rest.name:
                shutil.rmtree(rest)

    def _newest(self) -> tuple[str, dict[str, Any], list[str]]:
        """Name and metadata of the newest whole checkpoint, and what was set aside."""
        warnings: list[str] = []
        for folder in reversed(self._steps()):
            try:
                return folder.name, checkpoint.verify(folder), warnings
            except checkpoint.DamagedError as error:
                checkpoint.set_aside(folder)
                warnings.append(f"{error}; it is set aside, and the one before it is used")
        return "", {}, warnings

    def _forget(self) -> None:
        for folder in self._steps()[:-KEPT_STEPS]:
            shutil.rmtree(folder)

    def _steps(self) -> list[Path]:
        steps = (path for path in self.folder.glob("step-????????") if checkpoint.exists(path))
        return sorted(steps)


def result_of(workdir: str | Path, name: str) -> Any:
    """Returns what a finished unit of the run in `workdir` saved, verified, as numpy arrays.

    Raises:
      UserError: the run has no such unit (lists those it has), or its checkpoint is damaged.
    """
    run = Run(Path(workdir))
    if not run.unit(name).done:
        there = ", ".join(run.units()) or "none"
        raise UserError(f"{workdir} has no finished {name} (finished: {there})")
    return run.unit(name).result()[0]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold it, since two commands in one run would undo each other's rows.

    All processes call it; the first one holds the folder.

    Raises:
      UserError: it is a file, or another command holds it.
    """
    descriptor = processes.on_first(_lock, folder)
    try:
        yield
    finally:
        if processes.first():
            os.close(descriptor)


def open_run(
    folder: Path, identity: Identity, facts: Mapping[str, Any] | None = None
) -> tuple[Run, list[str]]:
    """Begin a run in `folder`, or continue the one that is there.

    A run is the same if its command and its config are, but for mesh, data folder and workers,
    checkpoints and logging, and for the extendable keys. `facts` are recorded beside: what else
    bits depend on, such as the devices and the data's digest.

    All processes call it; the first one looks and writes.

    Returns:
      The run, and warnings: of versions, a commit or facts other than those it began with, and of
      finished units whose checkpoints turned out damaged. These are set aside and done again.

    Raises:
      UserError: the folder holds a run of another identity, or something else.
    """
    run = Run(folder)
    warnings = processes.on_first(_begin, run, identity, facts or {})
    if identity.config["log"]["tensorboard"] and processes.first():
        run = dataclasses.replace(run, mirror=metrics.tensorboard(folder / "tensorboard"))
    return run, warnings


def fingerprint(folder: Path) -> str:
    """Returns what this process sees of the run, which is the same in all that share its disk."""
    starts = folder / "starts.jsonl"
    return starts.read_text(encoding="utf-8") if starts.exists() else "nothing"


def _begin(run: Run, identity: Identity, facts: Mapping[str, Any]) -> list[str]:
    """Write or compare config.json, and look through what is there; returns warnings."""
    folder = run.folder
    about = {**software(), **facts}
    now: dict[str, Any] = {
        "command": identity.command,
        "config": dict(identity.config),
        **about,
    }
    path = folder / "config.json"
    warnings = []
    if path.exists():
        began = read_about(folder)
        refuse_other(folder, began, identity)
        for name, fact in about.items():
            if began.get(name) != fact:
                warnings.append(f"this run began with {name} {began.get(name)}, now {fact}")
    elif folder.is_dir() and any(p.name != f"{path.name}.part" for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no run: give another --workdir")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, json.dumps(now, indent=1))
    start = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "argv": sys.argv[1:], **now}
    metrics.append(folder / "starts.jsonl", [start])
    return warnings + _set_damaged_aside(run)


def _set_damaged_aside(run: Run) -> list[str]:
    """Verify every finished unit and tidy up; returns a warning for each that must be redone."""
    warnings = []
    for name in run.units():
        run.unit(name).tidy()
        final = run.unit(name).folder / "final"
        try:
            checkpoint.verify(final)
        except checkpoint.DamagedError as error:
            checkpoint.set_aside(final)
            warnings.append(f"{error}; it is set aside, and {name} is done again")
    return warnings


def _lock(folder: Path) -> int:
    """Make and lock the folder; returns its descriptor."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is a file, not a folder: give another --workdir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{folder} is in use by another process: wait for it, or stop it") from None
    return descriptor
