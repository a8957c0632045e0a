"""A run is a folder of named units of work; the same command continues it.

config.json       command, resolved config, versions and commit; written once, never changed
starts.jsonl      one line for each time that a command opened the run
metrics.jsonl     one row per evaluation and replicate, and what operators watch
run.log           the lines that the terminal showed
checkpoints/UNIT/final          the result; the unit is done once this exists whole
checkpoints/UNIT/step-00000100  the state of a unit that is not done
figures/*.png, report.html
"""

import contextlib
import dataclasses
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from groundwork import atomic, buckets, copies
from groundwork.devices import processes
from groundwork.errors import UserError, missing
from groundwork.runs import checkpoint, metrics, place, tensorboard
from groundwork.runs.identity import FILE, Identity, read_about, refuse_other, run_id, software
from groundwork.runs.mirror import Mirror
from groundwork.runs.unit import Unit

DEEPEST = 16  # folders of a unit's name; links may lead in circles


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run folder. "(all processes)" in a docstring means that each of them must call it."""

    folder: Path
    charts: tensorboard.Charts | None = None  # what also shows rows in TensorBoard, if anything
    id: str = ""  # as config.json has it; empty if that is not known
    bucket: Mirror | None = None  # if the run is in a bucket, of which the folder is a copy

    def record(self, rows: list[metrics.Row]) -> None:
        """Appends rows to the metrics, in the first process."""
        if processes.first():
            metrics.append(self.metrics, rows)
            if self.charts:
                self.charts.write(rows)

    def close(self) -> None:
        """Waits until TensorBoard's files have all rows."""
        if self.charts:
            self.charts.close()

    def send(self) -> None:
        """Copies up what is new, if the run is in a bucket (all processes)."""
        if self.bucket:
            processes.on_first(self.bucket.send)

    def send_log(self) -> None:
        """Copies up the log alone, if the run is in a bucket; any thread of process 0 may."""
        if self.bucket:
            self.bucket.send_log()

    def add(self, folder: Path) -> None:
        """Copies up what other processes than the first have written into a folder of their own."""
        if self.bucket and not processes.first():
            self.bucket.add(folder)

    def share(self, folder: Path) -> None:
        """Lets all processes see a folder that the first one has written (all processes).

        Where they share a disk, they do. Where the run is in a bucket, each has its own copy.
        """
        self.send()
        self.bring(folder)

    def bring(self, folder: Path) -> None:
        """Brings a folder of the bucket's, if this process is not the first, which has it."""
        if self.bucket and not processes.first():
            self.bucket.bring(folder)

    @property
    def metrics(self) -> Path:
        """The file of all rows."""
        return self.folder / "metrics.jsonl"

    def check_places(self, units: Iterable[str]) -> None:
        """Checks that nothing else is where the run makes folders, and where its units are.

        Raises:
          UserError: a file is, or a link to nothing, or another unit; the error names it.
        """
        every = [self.unit(name) for name in units]
        own = [self.folder / name for name in ("figures", "profile", "tensorboard")]
        place.check_inside([*own, *(unit.folder for unit in every)])
        for unit in every:
            if unit.done:
                unit.check_origin(unit.folder / "final")

    def unit(self, name: str) -> Unit:
        """Returns the unit of work with this name, such as `levels/03/ticket`."""
        return Unit(self, name)

    def units(self) -> list[str]:
        """Returns the names of the finished units, sorted. Folders of units may be links."""
        root = self.folder / "checkpoints"
        finished = (unit for unit in _folders(root) if checkpoint.exists(unit / "final"))
        return sorted(unit.relative_to(root).as_posix() for unit in finished)


def result_of(workdir: str | Path, name: str) -> Any:
    """Returns the result of a finished unit of the run in `workdir`, verified, as NumPy arrays.

    Raises:
      UserError: the run has no such unit (the error lists its units), or the result is damaged.
    """
    folder = copies.near(workdir, FILE, f"checkpoints/{name}/final")
    run = Run(folder, id=run_id(folder))
    if not run.unit(name).done:
        if not buckets.is_url(str(workdir)) and not Path(workdir).is_dir():
            raise UserError(f"there is no run: {missing(workdir)}")
        run = Run(copies.near(workdir, f"checkpoints/*/final/{checkpoint.MANIFEST}"))
        finished = ", ".join(run.units()) or "none"
        raise UserError(f"{workdir} has no finished {name} (finished: {finished})")
    return run.unit(name).result()[0]


@contextlib.contextmanager
def locked(folder: Path, bucket: Mirror | None = None) -> Iterator[None]:
    """Makes and locks the folder, since two commands in one run would undo each other's rows.

    All processes call it; the first one holds the lock, and brings down what a bucket has.

    Raises:
      UserError: no folder or no run can be there, or another command holds the lock.
    """
    descriptor = processes.on_first(place.lock, folder)
    try:
        if bucket:
            processes.on_first(bucket.open)
        yield
    finally:
        if processes.first():
            os.close(descriptor)
            if bucket:
                bucket.close()


def open_run(
    folder: Path,
    identity: Identity,
    facts: Mapping[str, Any] | None = None,
    bucket: Mirror | None = None,
) -> tuple[Run, list[str]]:
    """Begins a run in `folder`, or continues the run that is there.

    Two runs are the same if they have the same command and the same config. The config's mesh, data
    folder, workers, checkpoints, logging and extendable keys do not count.

    All processes call it; the first one reads and writes.

    Args:
      folder: of the run.
      identity: what makes it this run.
      facts: whatever else bits depend on, such as the devices and the data's digest; recorded.
      bucket: of which the folder is a copy.

    Returns:
      The run, and its warnings. They tell of versions, a commit or facts that have changed since
      it began, and of finished units with a damaged checkpoint, which are set aside and done again.

    Raises:
      UserError: the folder holds a run of another identity, or other files.
    """
    run = Run(folder, bucket=bucket)
    warnings = processes.on_first(_begin, run, identity, facts or {})
    run = dataclasses.replace(run, id=processes.on_first(run_id, folder))
    warnings += processes.on_first(_set_damaged_aside, run)
    if identity.config["log"]["tensorboard"] and processes.first():
        run = dataclasses.replace(
            run, charts=tensorboard.charts(folder / "tensorboard", identity.config)
        )
    return run, warnings


def whole(run: Run) -> list[str]:
    """Returns the names of the finished units whose files are as they were written."""
    return [name for name in run.units() if not _damage(run.unit(name))]


def lost_rows(run: Run, units: Iterable[str]) -> list[str]:
    """Returns a warning if rows are lost of those units that are finished."""
    rows = metrics.by_unit(metrics.read(run.metrics))
    lost = [name for name in units if run.unit(name).done and run.unit(name).lost_rows(rows)]
    if not lost:
        return []
    names = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
    return [f"{run.metrics} has no longer all rows of {names}; no result depends on them"]


def fingerprint(run: Run) -> str:
    """Returns a text that is equal in all processes which see the same run folder, or bucket."""
    starts = run.folder / "starts.jsonl"
    if run.bucket:
        found = run.bucket.bucket.read(starts.name)
    else:
        found = starts.read_bytes() if starts.exists() else None
    return "nothing" if found is None else found.decode("latin-1")  # it may be any bytes


def _begin(run: Run, identity: Identity, facts: Mapping[str, Any]) -> list[str]:
    """Writes or compares config.json; returns warnings."""
    folder = run.folder
    if identity.config["log"]["tensorboard"]:
        tensorboard.require()
    facts = {**software(), **facts}
    now: dict[str, Any] = {
        "command": identity.command,
        "id": secrets.token_hex(8),  # by which the run's checkpoints know it
        "config": dict(identity.config),
        **({"own": dict(identity.own)} if identity.own else {}),
        **facts,
    }
    path = folder / FILE
    warnings = []
    if path.exists():
        began = read_about(folder)
        refuse_other(folder, began, identity)
        for name, fact in facts.items():
            if began.get(name) != fact:
                warnings.append(f"this run began with {name} {began.get(name)}, now {fact}")
    elif folder.is_dir() and any(p.name != f"{path.name}.part" for p in folder.iterdir()):
        if (folder / "checkpoints").is_dir():
            raise UserError(
                f"{folder} has checkpoints, but no config.json, which says of what run they are: "
                "bring it back, or give another --workdir"
            )
        raise UserError(f"{folder} is not empty and holds no run: give another --workdir")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, json.dumps(now, indent=1))
    start = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "argv": sys.argv[1:], **now}
    try:
        metrics.append(folder / "starts.jsonl", [start])
    except OSError as error:
        if error.errno not in atomic.READ_ONLY:
            raise
        warnings.append(f"{folder} cannot be written to ({error.strerror})")
    return warnings


def _set_damaged_aside(run: Run) -> list[str]:
    """Verifies every finished unit; returns a warning for each that must be done again."""
    warnings = []
    for name in run.units():
        unit = run.unit(name)
        unit.tidy()
        if reason := _damage(unit):
            checkpoint.set_aside(unit.folder / "final")
            warnings.append(f"{reason}; it is set aside, and {name} is done again")
    return warnings


def _damage(unit: Unit) -> str:
    """Returns how the checkpoint of a finished unit is damaged; empty if it is not."""
    try:
        checkpoint.verify(unit.folder / "final")
    except checkpoint.DamagedError as error:
        return str(error)
    return ""


def _folders(root: Path) -> Iterator[Path]:
    """Yields the folders below `root` that may be those of units."""
    for folder, below, _ in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        below[:] = [
            name
            for name in below
            if depth < DEEPEST and name != "final" and not name.startswith("step-")
        ]
        yield Path(folder)
