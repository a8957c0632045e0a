"""A run is a folder of named units of work; the same command continues it.

config.json       command, resolved config, versions and commit; written once, never changed
starts.jsonl      one line for each time that a command opened the run
metrics.jsonl     one row per evaluation and replicate
run.log           the lines that the terminal showed
checkpoints/UNIT/final          the result; the unit is done once this exists whole
checkpoints/UNIT/step-00000100  the state of a unit that is not done
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

KEPT_STEPS = 2  # checkpoints of an unfinished unit: the newest, and a spare


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run folder. "(all processes)" in a docstring means that each of them must call it."""

    folder: Path
    mirror: Callable[[list[metrics.Row]], None] | None = None  # also sends rows to TensorBoard

    def record(self, rows: list[metrics.Row]) -> None:
        """Appends rows to the metrics, in the first process."""
        if processes.first():
            metrics.append(self.metrics, rows)
            if self.mirror:
                self.mirror(rows)

    @property
    def metrics(self) -> Path:
        """The file of all rows."""
        return self.folder / "metrics.jsonl"

    def unit(self, name: str) -> "Unit":
        """Returns the unit of work with this name, such as `levels/03/ticket`."""
        return Unit(self, name)

    def units(self) -> list[str]:
        """Returns the names of the finished units, sorted."""
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
        """The folder of its checkpoints."""
        return self.run.folder / "checkpoints" / self.name

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        return checkpoint.exists(self.folder / "final")

    def finish(self, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves the result and removes other checkpoints; the unit is then done (all processes)."""
        processes.on_first(metrics.sync, self.run.metrics)
        checkpoint.save(self.folder / "final", tree, metadata)
        processes.on_first(self.tidy)

    def result(self, like: Any = None) -> tuple[Any, dict[str, Any]]:
        """Returns the tree and metadata that `finish` saved, verified (all processes)."""
        return checkpoint.restore(self.folder / "final", like)

    def begin_again(self, rows: int) -> None:
        """Drops the unit's rows after the first `rows`; they are written again (all processes)."""
        processes.on_first(metrics.keep, self.run.metrics, self.name, rows)

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves the state of an unfinished unit (all processes)."""
        processes.on_first(metrics.sync, self.run.metrics)
        checkpoint.save(self.folder / f"step-{step:08d}", tree, metadata)
        processes.on_first(self._forget)

    def latest(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest whole checkpoint of an unfinished unit, or None (all processes).

        Damaged ones are set aside; `warn` is told of each.
        """
        name, metadata, warnings = processes.on_first(self._newest)
        for warning in warnings:
            warn(warning)
        return (checkpoint.read(self.folder / name, like), metadata) if name else None

    def set_aside(self) -> bool:
        """Renames its checkpoints, so that it is done again; returns whether there were any.

        Only one process may call it.
        """
        final = self.folder / "final"
        checkpoints = [*self._steps(), *([final] if checkpoint.exists(final) else [])]
        for folder in checkpoints:
            checkpoint.set_aside(folder)
        return bool(checkpoints)

    def tidy(self) -> None:
        """Removes what a finished unit no longer needs, and what interrupted saves left."""
        for rest in self.folder.glob("step-*"):
            if ".damaged-" not in rest.name:
                shutil.rmtree(rest)

    def _newest(self) -> tuple[str, dict[str, Any], list[str]]:
        """Returns name and metadata of the newest whole checkpoint, and warnings of damage."""
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
    """Returns the result of a finished unit of the run in `workdir`, verified, as NumPy arrays.

    Raises:
      UserError: the run has no such unit (the error lists its units), or the result is damaged.
    """
    run = Run(Path(workdir))
    if not run.unit(name).done:
        finished = ", ".join(run.units()) or "none"
        raise UserError(f"{workdir} has no finished {name} (finished: {finished})")
    return run.unit(name).result()[0]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes and locks the folder, since two commands in one run would undo each other's rows.

    All processes call it; the first one holds the lock.

    Raises:
      UserError: the folder is a file, or another command holds the lock.
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
    """Begins a run in `folder`, or continues the run that is there.

    Two runs are the same if they have the same command and the same config. The config's mesh, data
    folder, workers, checkpoints, logging and extendable keys do not count.

    All processes call it; the first one reads and writes.

    Args:
      folder: of the run.
      identity: what makes it this run.
      facts: whatever else bits depend on, such as the devices and the data's digest; recorded.

    Returns:
      The run, and its warnings. They tell of versions, a commit or facts that have changed since
      it began, and of finished units with a damaged checkpoint, which are set aside and done again.

    Raises:
      UserError: the folder holds a run of another identity, or other files.
    """
    run = Run(folder)
    warnings = processes.on_first(_begin, run, identity, facts or {})
    if identity.config["log"]["tensorboard"] and processes.first():
        run = dataclasses.replace(run, mirror=metrics.tensorboard(folder / "tensorboard"))
    return run, warnings


def fingerprint(folder: Path) -> str:
    """Returns a text that is equal in all processes which see the same run folder."""
    starts = folder / "starts.jsonl"
    return starts.read_text(encoding="utf-8") if starts.exists() else "nothing"


def _begin(run: Run, identity: Identity, facts: Mapping[str, Any]) -> list[str]:
    """Writes or compares config.json, and verifies the finished units; returns warnings."""
    folder = run.folder
    facts = {**software(), **facts}
    now: dict[str, Any] = {
        "command": identity.command,
        "config": dict(identity.config),
        **({"own": dict(identity.own)} if identity.own else {}),
        **facts,
    }
    path = folder / "config.json"
    warnings = []
    if path.exists():
        began = read_about(folder)
        refuse_other(folder, began, identity)
        for name, fact in facts.items():
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
    """Verifies every finished unit; returns a warning for each that must be done again."""
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
    """Makes and locks the folder; returns its descriptor."""
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
