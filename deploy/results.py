"""The results of a run, read back from its folder for tables and figures."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.answers import Answer
from deploy.files import File
from deploy.measure import Measured
from deploy.spec import JAX, files_unit, graph_unit, measures_unit
from groundwork.errors import UserError
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Time:
    """What was measured of an engine, with so many threads and examples of a call."""

    engine: str
    kind: str
    threads: int
    batch: int
    measured: Measured

    @property
    def name(self) -> str:
        """Of the engine and the kind, such as `litert int8`."""
        return f"{self.engine} {self.kind}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """One network: its files, times and answers, as far as they are made."""

    name: str
    files: list[File]
    remarks: list[str]
    times: list[Time]
    load: dict[str, list[float]]  # of the machine, while these were measured
    answers: dict[tuple[str, str], Answer]  # engine, kind → what it answers
    graph: str  # a table of its operations; empty if none was asked for

    def file(self, engine: str, kind: str, batch: int) -> File | None:
        """Returns the file of an engine; None of JAX, which has none."""
        found = (f for f in self.files if (f.engine, f.kind, f.batch) == (engine, kind, batch))
        return next(found, None)

    def jax(self, threads: int, batch: int) -> float | None:
        """Returns JAX's median milliseconds with so many threads and examples."""
        for one in self.times:
            if (one.engine, one.threads, one.batch) == (JAX, threads, batch):
                return one.measured.milliseconds[1] if one.measured.milliseconds else None
        return None


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run and the networks that have files."""

    networks: list[Network]


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no network with files, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "deploy")
    names = [u.removeprefix(files_unit("")) for u in run.units() if u.startswith(files_unit(""))]
    if not names:
        raise UserError(f"{run.folder} has no network with files yet")
    with readable(run.folder):
        networks = [_network(run, name) for name in names]
    return Results(**fields, networks=networks)


def _network(run: Run, name: str) -> Network:
    written = run.unit(files_unit(name)).result()[1]
    measured: Mapping[str, Any] = {"times": [], "load": {}, "answers": []}
    if run.unit(measures_unit(name)).done:
        measured = run.unit(measures_unit(name)).result()[1]
    drawn = run.unit(graph_unit(name))
    answers = [_answer(row) for row in measured["answers"]]
    return Network(
        name=name,
        files=[file(row) for row in written["files"]],
        remarks=written["remarks"],
        times=[_time(row) for row in measured["times"]],
        load=measured["load"],
        answers={(one.engine, one.kind): one for one in answers},
        graph=drawn.result()[1]["table"] if drawn.done else "",
    )


def file(row: Mapping[str, Any]) -> File:
    """Returns a file as a unit's metadata describe it."""
    return File(**{**row, "paths": tuple(row["paths"]), "remarks": tuple(row["remarks"])})


def _time(row: Mapping[str, Any]) -> Time:
    names = {field.name for field in dataclasses.fields(Measured)}
    measured = Measured(**{key: value for key, value in row.items() if key in names})
    return Time(**{k: v for k, v in row.items() if k not in names}, measured=measured)


def _answer(row: Mapping[str, Any]) -> Answer:
    operations = row["operations"]
    rows = None if operations is None else [(one[0], one[1], one[2]) for one in operations]
    return Answer(**{**row, "values": tuple(row["values"]), "operations": rows})
