"""What every command does: config, data, devices, run folder, work that is not done, report."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.devices import interruption, mesh, processes
from groundwork.devices.interruption import Interruption
from groundwork.runs import identity, run
from groundwork.runs.progress import Reporter
from groundwork.runs.run import Run


class Prepared(NamedTuple):
    """A study that is ready to work; nothing is compiled yet."""

    mesh: Mesh
    convolutions: str | None  # what computes them: bits depend on it
    work: Callable[[Run, Reporter, Interruption], None]  # does the units that are not done
    begin: Callable[[], Any] = lambda: None  # refuses what a new run lacks, before it has a folder


class Study(NamedTuple):
    """One kind of experiment."""

    usage: str
    extendable: tuple[str, ...]  # keys of the config: more of these continues a finished run
    check: Callable[[Mapping[str, Any]], Any]  # resolved config → spec
    units: Callable[[Any], list[str]]  # spec → names of all units
    prepare: Callable[[Any, Mapping[str, Any], AnyDataset], Prepared]
    show: Callable[[Sequence[Path]], Any]  # run folders → tables, figures, page
    mend: Callable[[Run], list[str]] = lambda run: []  # sets units of lost files aside; warnings


def conduct(study: Study, argv: Sequence[str]) -> None:
    """Parse, check, do what is not done yet, report.

    Raises:
      UserError: whatever a user can mend.
      Interrupted: the run was asked to stop; it is saved.
    """
    parsed, workdir = config_lib.parse(argv, study.usage)
    config = config_lib.resolve(parsed)
    spec = study.check(config)
    processes.start()
    with interruption.watched() as asked:
        processes.same("config", json.dumps(config), "start the same command everywhere")
        software = json.dumps(identity.software())
        processes.same("version of the code or of a library", software, "install the same")
        dataset = data_lib.load(config)
        digest = data_lib.digest(dataset)
        processes.same("data set", digest, "give all the same files")
        prepared = study.prepare(spec, config, dataset)
        built = str(prepared.convolutions)
        processes.same("library of convolutions", built, "`make cpu` on all machines or on none")
        facts = {
            "data": digest,
            "devices": mesh.describe(prepared.mesh),
            "convolutions": prepared.convolutions,
        }
        if not processes.on_first((workdir / "config.json").exists):
            prepared.begin()
        with run.locked(workdir):
            opened, warnings = run.open_run(workdir, config, study.extendable, facts)
            warnings += processes.on_first(study.mend, opened)
            seen = run.fingerprint(workdir)
            processes.same("run folder", seen, "--workdir must be on a disk that all share")
            units = study.units(spec)
            done = set(units) & set(processes.on_first(opened.units))
            with Reporter(workdir / "run.log", len(units), len(done)) as reporter:
                for warning in warnings:
                    reporter.say(f"warning: {warning}")
                if len(done) < len(units):
                    prepared.work(opened, reporter, asked)
            if processes.first():
                study.show([workdir])
            processes.wait_for_all("the report")


def finished(study: Study, workdir: Path, config: Mapping[str, Any]) -> bool:
    """Has the run of this config in `workdir` nothing left to do? Needs neither data nor devices.

    Raises:
      UserError: the config is wrong, or the folder holds another run.
    """
    units = study.units(study.check(config))
    if not (workdir / "config.json").exists():
        return False
    identity.check_identity(workdir, config, study.extendable)
    return set(units) <= set(run.Run(workdir).units())
