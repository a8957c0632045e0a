"""Engines measured beside each other, each file in a process of its own. Read `measure` first.

Energy is not measured.
"""

# B batch of a file, N test examples

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy import child as child_lib
from deploy import engines
from deploy.child import Child, Failed, Refused

LEAST_CALLS = 3  # of a block, however long they take


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """One file on one engine.

    Attributes:
      engine: its name, or `jax`.
      kind: `float` or `int8`.
      threads: on which it computes; as many processors are left to its process.
      batch: B, the examples of one call.
      path: of the file.
      runtime: the module that runs it.
      package: what that module imports.
    """

    engine: str
    kind: str
    threads: int
    batch: int
    path: Path
    runtime: str
    package: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a subject.

    Attributes:
      milliseconds: of a call: lower quartile, median, upper quartile; none if it failed.
      calls: of which they are.
      load_seconds: to load the file, once the engine is imported.
      peak_bytes: that the process had resident above what it had before the engine.
      processors: to which it was pinned; 0 if this system pins no process.
      failure: why there are no numbers, or none of a part; empty if all is well.
      refused: whether the engine said no to the file, as it would again.
    """

    milliseconds: list[float] = dataclasses.field(default_factory=list)
    calls: int = 0
    load_seconds: float | None = None
    peak_bytes: int | None = None
    processors: int = 0
    failure: str = ""
    refused: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """What a subject answered to examples.

    Attributes:
      outputs: K arrays [N, …]; none if it failed.
      operations: name, operation and precision of what the engine computes; None if it does not
        tell.
      failure: why something is missing; empty if all is well.
    """

    outputs: tuple[np.ndarray, ...] = ()
    operations: list[tuple[str, str, str]] | None = None
    failure: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How long is measured.

    Attributes:
      rounds: in which all take turns.
      seconds: of calls of each in a round, at least.
      warmup_seconds: of calls before the first round.
      limit_seconds: a process that does not answer for so long has failed.
    """

    rounds: int
    seconds: float
    warmup_seconds: float
    limit_seconds: float


def subject(engine: str, kind: str, threads: int, batch: int, path: Path) -> Subject:
    """Returns a file on an engine of the table, or on `jax`."""
    if engine == "jax":
        package, runtime = "jax", "deploy.exported"
    else:
        package, runtime = engines.TABLE[engine].package, engines.TABLE[engine].runtime
    return Subject(
        engine=engine,
        kind=kind,
        threads=threads,
        batch=batch,
        path=path,
        runtime=runtime,
        package=package,
    )


def measure(
    subjects: Sequence[Subject],
    inputs: Mapping[int, Sequence[np.ndarray]],
    settings: Settings,
    pause: Callable[[], None] = lambda: None,
    examples: Sequence[np.ndarray] = (),
    tell: bool = True,
) -> tuple[dict[Subject, Measured], dict[Subject, Answered], list[float]]:
    """Measures all subjects in turns: in each round each has one block of calls, the others wait.

    Args:
      subjects: at most one is computing at a time.
      inputs: B → arrays [B, …] of one call.
      settings: see `Settings`.
      pause: called between two blocks; what it raises ends all.
      examples: arrays [N, …] that all subjects answer to at the end; none without them. The last
        batch is filled up with the first examples.
      tell: whether the answers say what engines compute.

    Returns:
      What was measured; the answers of those that did not fail before; and the machine's load (of
      `os.getloadavg`, one minute) at the beginning of each round and at the end. A process that
      fails takes no other with it.
    """
    found: dict[Subject, Measured] = {}
    answered: dict[Subject, Answered] = {}
    times: dict[Subject, list[float]] = {}
    load: list[float] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {batch: _saved(folder / f"{batch}.npz", arrays) for batch, arrays in inputs.items()}
        running: dict[Subject, Child] = {}
        for one in subjects:
            pause()
            child = stack.enter_context(child_lib.started(settings.limit_seconds))
            found[one] = _started(child, one, files[one.batch], settings.warmup_seconds)
            if not found[one].failure:
                running[one], times[one] = child, []
        for number in range(settings.rounds):
            load.append(_load())
            for one in _turned(list(running), number):
                pause()
                try:
                    asked = running[one].ask("block", seconds=settings.seconds, least=LEAST_CALLS)
                    times[one] += asked["seconds"]
                except Failed as failed:
                    found[one] = dataclasses.replace(found[one], failure=str(failed))
                    del running[one]
        load.append(_load())
        for one, child in running.items():
            found[one] = _finished(child, found[one], times[one])
            pause()
            if examples and not found[one].failure:
                answered[one] = _answered(child, one, examples, folder, tell)
    return found, answered, load


def processors(threads: int) -> list[int]:
    """Returns the processors for so many threads: the first of this process's, or all of them."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(threads))
    return sorted(os.sched_getaffinity(0))[:threads]


def _started(child: Child, one: Subject, inputs: Path, warmup: float) -> Measured:
    try:
        loaded = _load_into(child, one, inputs)
        child.ask("block", seconds=warmup, least=LEAST_CALLS)
    except Failed as failed:
        return Measured(failure=str(failed), refused=isinstance(failed, Refused))
    pinned = len(processors(one.threads)) if loaded["pinned"] else 0
    return Measured(load_seconds=loaded["load_seconds"], processors=pinned)


def _load_into(child: Child, one: Subject, inputs: Path) -> dict[str, Any]:
    return child.ask(
        "load",
        runtime=one.runtime,
        package=one.package,
        path=str(one.path),
        threads=one.threads,
        processors=processors(one.threads),
        inputs=str(inputs),
    )


def _finished(child: Child, so_far: Measured, seconds: list[float]) -> Measured:
    quartiles = 1e3 * np.quantile(seconds, [0.25, 0.5, 0.75])
    so_far = dataclasses.replace(so_far, milliseconds=quartiles.tolist(), calls=len(seconds))
    try:
        return dataclasses.replace(so_far, peak_bytes=child.ask("peak")["peak_bytes"])
    except Failed as failed:
        return dataclasses.replace(so_far, failure=str(failed))


def _answered(
    child: Child, one: Subject, examples: Sequence[np.ndarray], folder: Path, tell: bool
) -> Answered:
    count = len(examples[0])
    places = np.arange(-(-count // one.batch) * one.batch) % count
    given = _saved(folder / "given.npz", [array[places] for array in examples])
    outputs: tuple[np.ndarray, ...] = ()
    try:
        child.ask("outputs", inputs=str(given), outputs=str(folder / "found.npz"))
        with np.load(folder / "found.npz") as file:
            outputs = tuple(file[f"arr_{n}"][:count] for n in range(len(file.files)))
        rows = child.ask("operations", path=str(one.path))["operations"] if tell else None
    except Failed as failed:
        return Answered(outputs=outputs, failure=str(failed))
    operations = None if rows is None else [(row[0], row[1], row[2]) for row in rows]
    return Answered(outputs=outputs, operations=operations)


def _saved(path: Path, arrays: Sequence[np.ndarray]) -> Path:
    np.savez(path, *arrays)
    return path


def _turned(items: list[Subject], number: int) -> list[Subject]:
    """Returns the items from another one on in each round, so that none always follows the same."""
    start = number % len(items) if items else 0
    return items[start:] + items[:start]


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
