"""One unit of work of a run: its checkpoints, and the rows that they rely on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundwork.devices import mesh, processes
from groundwork.errors import UserError
from groundwork.runs import checkpoint, metrics

if TYPE_CHECKING:
    from groundwork.runs.run import Run

KEPT_STEPS = 2  # checkpoints of an unfinished unit: the newest, and a spare


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
        self._write(self.folder / "final", tree, metadata)
        processes.on_first(self.tidy)
        self.run.send()

    def result(self, like: Any = None) -> tuple[Any, dict[str, Any]]:
        """Returns the tree and metadata that `finish` saved, verified.

        All processes call it; without `like`, this one alone may, as for `checkpoint.restore`.

        Raises:
          UserError: see `verify`.
        """
        final = self.folder / "final"
        with self._advice():
            self._bring(final)
            found = checkpoint.restore(final, like)
        if like is None:
            self.check_origin(final)
        else:
            processes.on_first(self.check_origin, final)
        return found

    def verify(self) -> dict[str, Any]:
        """Checks the files of a finished unit, and returns its metadata. One process calls it.

        Raises:
          DamagedError: a file has changed.
          UserError: the checkpoint is that of another unit, or of another run.
        """
        final = self.folder / "final"
        with self._advice():
            metadata = checkpoint.verify(final)
        self.check_origin(final)
        return metadata

    def lost_rows(self, rows: Mapping[str, Sequence[metrics.Row]]) -> str:
        """Returns what is wrong with the rows of a finished unit, in words; empty if nothing is.

        Args:
          rows: unit → its rows, as they are in the metrics now.
        """
        return _lost(checkpoint.origin(self.folder / "final"), rows.get(self.name, []))

    def begin_again(self, rows: int) -> None:
        """Drops the unit's rows after the first `rows`; they are written again (all processes)."""
        processes.on_first(metrics.keep, self.run.metrics, self.name, rows)

    def save(self, step: int, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves the state of an unfinished unit (all processes)."""
        self._write(self.folder / f"step-{step:08d}", tree, metadata)
        processes.on_first(self._forget)
        self.run.send()

    def latest(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest whole checkpoint of an unfinished unit, or None (all processes).

        Damaged ones, and those whose rows are lost, are set aside; `warn` is told of each.

        Raises:
          UserError: one is that of another unit, or of another run.
        """
        name, metadata, warnings = processes.on_first(self._newest)
        for warning in warnings:
            warn(warning)
        if not name:
            return None
        self._bring(self.folder / name)
        return checkpoint.read(self.folder / name, like), metadata

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
                checkpoint.remove(rest)

    def _write(self, folder: Path, tree: Any, metadata: dict[str, Any]) -> None:
        """Saves a checkpoint. Of processes that share no disk, the first one writes all of it."""
        origin = processes.on_first(self._origin)
        if self.run.bucket and processes.count() > 1:
            tree = mesh.replicated(tree)
            processes.on_first(checkpoint.save_alone, folder, tree, metadata, origin)
        else:
            checkpoint.save(folder, tree, metadata, origin)

    def _bring(self, folder: Path) -> None:
        """Brings a checkpoint to a process that has another disk than the first, verified."""
        if self.run.bucket and not processes.first():
            self.run.bring(folder)
            checkpoint.verify(folder)

    def _newest(self) -> tuple[str, dict[str, Any], list[str]]:
        """Returns name and metadata of the newest whole checkpoint, and warnings of damage."""
        warnings: list[str] = []
        for folder in reversed(self._steps()):
            try:
                metadata = checkpoint.verify(folder)
                wrong = self._lost_at(folder, metadata.get("rows", 0))
            except checkpoint.DamagedError as error:
                wrong = str(error)
            if not wrong:
                return folder.name, metadata, warnings
            checkpoint.set_aside(folder)
            warnings.append(f"{wrong}; it is set aside, and the one before it is used")
        return "", {}, warnings

    def _lost_at(self, folder: Path, count: int) -> str:
        """Returns what is wrong with the first rows, on which a checkpoint of steps relies."""
        self.check_origin(folder)
        rows = metrics.of_unit(self.run.metrics, self.name)[:count]
        wrong = _lost({"rows": count, **checkpoint.origin(folder)}, rows)
        return wrong and f"checkpoint {folder}: {self.run.metrics}: {wrong}"

    def _origin(self) -> dict[str, Any]:
        """Returns what a checkpoint belongs to, once its rows are on the disk."""
        metrics.sync(self.run.metrics)
        rows = metrics.of_unit(self.run.metrics, self.name)
        return {"run": self.run.id, "unit": self.name, **metrics.summary(rows)}

    def check_origin(self, folder: Path) -> None:
        """Refuses a verified checkpoint that was copied here from elsewhere."""
        origin = checkpoint.origin(folder)
        unit, run = origin.get("unit", self.name), origin.get("run")
        if unit == self.name and (run == self.run.id or not run or not self.run.id):
            return
        raise UserError(
            f"{folder} is {unit} of {'this' if run == self.run.id else 'another'} run: move it "
            "away, and start the run again"
        )

    @contextlib.contextmanager
    def _advice(self) -> Iterator[None]:
        """Says what helps against damage."""
        try:
            yield
        except checkpoint.DamagedError as error:
            raise checkpoint.DamagedError(
                f"{error}: start the run again, and {self.name} is done again"
            ) from error

    def _forget(self) -> None:
        for folder in self._steps()[:-KEPT_STEPS]:
            checkpoint.remove(folder)

    def _steps(self) -> list[Path]:
        steps = (path for path in self.folder.glob("step-????????") if checkpoint.exists(path))
        return sorted(steps)


def _lost(origin: Mapping[str, Any], rows: Sequence[metrics.Row]) -> str:
    """Returns why these are not the rows that a checkpoint relies on; empty if they are."""
    if len(rows) != origin.get("rows", len(rows)):
        return f"{len(rows)} of {origin['rows']} rows are there"
    summary = metrics.summary(rows)
    same = origin.get("rows_sha256", summary["rows_sha256"]) == summary["rows_sha256"]
    return "" if same else "rows have changed"
