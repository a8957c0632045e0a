"""Runs of one search share what each of them has done, in a folder that all of them see.

Every run has a folder of its own. The first one that holds the lock of a unit does it, and the
others take it over from the board. A run that dies gives its lock back, so another does the unit.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compress import made as made_lib
from compress import work as networks_lib
from groundwork import atomic, jsons, paths
from groundwork.context import Context
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs import checkpoint, identity
from groundwork.runs.unit import Unit

POLL_SECONDS = 0.5
FACTS = ("command", "config", "data", "own")  # of config.json, which all runs must share
EXTENDABLE = ("evaluations", "search.seconds")  # some runs may go further than others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """Where a run shares its units.

    Attributes:
      context: of the run.
      folder: that the runs share; None = this run is alone.
    """

    context: Context
    folder: Path | None


def opened(folder: str, context: Context) -> Board:
    """Returns the board in a folder, which is made if it is not there; "" = the run is alone.

    Raises:
      UserError: the folder is that of another search, or the run has several processes.
    """
    if not folder:
        return Board(context=context, folder=None)
    if processes.count() > 1:
        raise UserError(
            "search.board: runs that share are of one process each: start more runs instead"
        )
    place = paths.given(folder)
    about = identity.read_about(context.run.folder)
    own = json.loads(json.dumps({name: about.get(name) for name in FACTS}))
    with _held(place / "lock", wait=True):
        path = place / identity.FILE
        if not path.exists():
            atomic.write(path, json.dumps(own, indent=1))
        _refuse_other(path, own)
    return Board(context=context, folder=place)


def do(board: Board, units: Mapping[str, Callable[[], None]]) -> None:
    """Does units that do not need each other, or takes over what other runs have done of them.

    Args:
      board: see `opened`.
      units: name → what makes the unit, and finishes it.

    Raises:
      Interrupted: the run was asked to stop while it waited for others.
    """
    left, told = dict(units), False
    while left:
        ready = [name for name, make in left.items() if _tried(board, name, make)]
        left = {name: make for name, make in left.items() if name not in ready}
        if ready or not left:
            continue
        if not told:
            board.context.reporter.say(f"waiting for other runs to finish {', '.join(left)}")
            told = True
        if board.context.interruption.reached():
            raise board.context.interruption.stop(f"the unit before {next(iter(left))}")
        time.sleep(POLL_SECONDS)


def _tried(board: Board, name: str, make: Callable[[], None]) -> bool:
    """Returns whether a unit is done now: it was, or this run has done it, or another one has."""
    unit = board.context.run.unit(name)
    if board.folder is None:
        if not processes.on_first(lambda: unit.done):
            make()
        return True
    place = board.folder / name
    if checkpoint.exists(place / "final"):
        _take(board, unit, place)
        return True
    with _held(place / "lock") as held:
        if not held:
            return False
        if checkpoint.exists(place / "final"):  # since this was asked
            _take(board, unit, place)
            return True
        if not unit.done:
            make()
        _publish(unit, place)
    return True


def _publish(unit: Unit, place: Path) -> None:
    """Copies a finished unit to the board, its checkpoint last."""
    files = _files(unit.run.folder, unit.name)
    copied = [(files, place / "files")] if files.is_dir() else []
    for source, target in [*copied, (unit.folder / "final", place / "final")]:
        _copied(source, target)


def _take(board: Board, unit: Unit, place: Path) -> None:
    """Makes a unit of this run from what the board has."""
    if unit.done:
        if unit.verify() != checkpoint.verify(place / "final"):
            raise UserError(
                f"search.board: its {unit.name} is not that of {unit.run.folder}, which was done "
                "apart: give another --workdir"
            )
        return
    reporter = board.context.reporter
    reporter.begin(unit.name, 0, 1)
    tree, metadata = checkpoint.restore(place / "final")
    if (place / "files").is_dir():
        _copied(place / "files", _files(unit.run.folder, unit.name))
    unit.finish(tree, metadata)
    for part in unit.folder.rglob("step-*"):  # of a training that this run had begun
        checkpoint.remove(part)
    reporter.end("taken over from another run")


def _copied(source: Path, target: Path) -> None:
    """Copies a folder, in place of what is there; it is whole once it has its name."""
    part = target.with_name(f"{target.name}.part")
    for rest in (part, target):
        shutil.rmtree(rest, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, part)
    os.replace(part, target)


def _files(run: Path, unit: str) -> Path:
    """Returns the folder of the files of a unit's networks."""
    folder = "chosen" if unit.startswith("chosen/") else unit.removeprefix(made_lib.unit_name(""))
    return run / networks_lib.FILES / folder


@contextlib.contextmanager
def _held(path: Path, wait: bool = False) -> Iterator[bool]:
    """Holds a lock, which ends with the process at the latest; yields False if another has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")  # opened for writing, as disks of a network want it
    except OSError as error:
        raise UserError(f"search.board: {path.parent}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _refuse_other(path: Path, own: Mapping[str, Any]) -> None:
    """Checks that a board's search is this one.

    Raises:
      UserError: it is not, or its file is damaged.
    """
    try:
        began = dict(jsons.parse(path.read_bytes()))
        differing = identity.differing(began["config"], own["config"], EXTENDABLE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"search.board: {path} is damaged ({error})") from error
    differing += [
        f"{name} is {began.get(name)} there, {own[name]} here"
        for name in FACTS
        if name != "config" and began.get(name) != own[name]
    ]
    if differing:
        where = path.parent
        raise UserError(f"search.board={where} has another search: {'; '.join(differing)}")
