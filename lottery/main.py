"""python -m lottery.main --config=configs/lottery/FILE.py --workdir=DIR [--config.KEY=VALUE …]"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment import config as config_lib
from experiment import data, identity, interruption, processes, run
from experiment.entry import run_main
from experiment.progress import Reporter
from lottery import branches, report, setup, spec, tickets

USAGE = config_lib.USAGE.format(
    module="lottery.main",
    about="Lottery tickets: train, prune, rewind, repeat, with controls beside, and a report.",
    example="configs/lottery/mnist1d.py",
)
EXTENDABLE = ("levels", "branches")  # more of these continues a finished run


def main(argv: Sequence[str]) -> None:
    """Parse, check, train what is not done yet, report."""
    parsed, workdir = config_lib.parse(argv, USAGE)
    config = config_lib.resolve(parsed)
    checked = spec.from_config(config)
    processes.start()
    with interruption.watched() as asked:
        processes.same("config", json.dumps(config), "start the same command everywhere")
        software = json.dumps(identity.software())
        processes.same("version of the code or of a library", software, "install the same")
        dataset = data.load(config)
        digest = data.digest(dataset)
        processes.same("data set", digest, "give all the same files")
        plan = setup.make_plan(checked, config, dataset)
        devices = setup.make_mesh(checked, dataset)
        facts = {"data": digest, **setup.facts(config, dataset, devices)}
        built = str(facts["convolutions"])
        processes.same("library of convolutions", built, "`make cpu` on all machines or on none")
        with run.locked(workdir):
            opened, warnings = run.open_run(workdir, config, EXTENDABLE, facts)
            seen = run.fingerprint(workdir)
            processes.same("run folder", seen, "--workdir must be on a disk that all share")
            units = tickets.unit_names(checked)
            done = set(units) & set(processes.on_first(opened.units))
            with Reporter(workdir / "run.log", len(units), len(done)) as reporter:
                for warning in warnings:
                    reporter.say(f"warning: {warning}")
                if len(done) < len(units):
                    experiment = setup.make_experiment(
                        checked, config, dataset, plan, devices, opened, reporter, asked
                    )
                    tickets.find_tickets(experiment, branches.train_branch)
            if processes.first():
                report.show([workdir])
            processes.wait_for_all("the report")


def finished(workdir: Path, config: Mapping[str, Any]) -> bool:
    """Has the run of this config in `workdir` nothing left to do? Needs neither data nor devices.

    Raises:
      UserError: the config is wrong, or the folder holds another run.
    """
    units = tickets.unit_names(spec.from_config(config))
    if not (workdir / "config.json").exists():
        return False
    identity.check_identity(workdir, config, EXTENDABLE)
    return set(units) <= set(run.Run(workdir).units())


if __name__ == "__main__":
    run_main(main)
