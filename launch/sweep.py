"""python -m launch.sweep --config=FILE --set KEY=VALUE,VALUE …: many runs, one table."""

import argparse
import csv
import importlib
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from groundwork import config as config_lib
from groundwork import study as study_lib
from groundwork import terminal
from groundwork.entry import run_main
from groundwork.errors import UserError, reason, short
from groundwork.report import tables
from groundwork.runs import place
from groundwork.study import Study
from launch import cli, jobs, points, slurm, slurm_gpus
from launch.child import Child
from launch.jobs import Outcome
from launch.points import Point

STORY = """
Every point is a run in a folder of --workdir named by its overrides, such as prune.rate=0.1,seed=0.
Finished points are skipped, so that the same command continues a sweep, and with more values
extends it. At the end there are a table of all points, results.csv, and comparison/ with a figure.

  --set KEY=VALUE,VALUE  one point per value of KEY; several --set make a grid. Commas inside
                         brackets or quotes belong to a value:
                         --set "branches.random_mask=(1,2),all"
                         --set "prune.rate=0.2,{'*': 0.2, 'output': 0.1}"
  --points FILE          one point per line: KEY=VALUE KEY=VALUE; quotes around what has blanks,
                         # begins a comment. With --set, every line with every combination.
  -- FLAGS               for every point alike, such as -- --config.train.steps=100

  python -m launch.sweep --config=configs/lottery/digits.py --workdir=runs/sweep \\
      --set prune.rate=0.1,0.2,0.5 --set seed=0,1

A --module that can be swept has a STUDY: see groundwork/study.py.
"""


class Job(NamedTuple):
    """A point, where it runs, and what runs it."""

    point: Point
    folder: Path
    child: Child
    finished: bool


def main(argv: Sequence[str]) -> None:
    """Run the points that are not finished, then show all; fail if a point has failed."""
    flags, extra = cli.split(argv)
    options = _parser().parse_args(flags)
    if options.executor == "slurm":
        slurm.submitit_side()  # before anything is made
        slurm.check(options)
    elif given := slurm.given(options):
        raise UserError(f"{given[0]} is about jobs on Slurm: it needs --executor=slurm")
    work = _plan(options, extra)
    todo = {job.point.name: job.child for job in work if not job.finished}
    if options.dry_run:
        _show_plan(work, options)
        return
    options.workdir.mkdir(parents=True, exist_ok=True)
    count = f"{len(work)} point" + "s" * (len(work) > 1)
    terminal.say(f"{count}, {len(work) - len(todo)} finished already")
    outcomes = {job.point.name: Outcome("finished") for job in work if job.finished}
    if todo:
        folders = {job.point.name: job.folder for job in work}
        outcomes.update(_run(todo, options, terminal.say, folders))
    _report(work, outcomes, options)
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.state != "finished"}
    for name, outcome in failed.items():
        print(outcome.told(name), file=sys.stderr)
    if failed:
        print("the same command starts these points again", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("launch.sweep", "--config=FILE --set KEY=VALUE,… [FLAGS] [-- …]", STORY)
    parser.add_argument("--config", required=True, help="what every point starts from")
    parser.add_argument("--workdir", type=cli.path, default=Path("runs/sweep"), help="(runs/sweep)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=…", help="see below")
    parser.add_argument("--points", type=cli.path, metavar="FILE", help="see below")
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="(local)")
    parser.add_argument(
        "--parallel", type=cli.at_least(1), help="points at a time (1 here, all on Slurm)"
    )
    parser.add_argument("--module", default="lottery.main", help="what runs (lottery.main)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be executed")
    slurm.add_flags(parser)
    return parser


def _plan(options: argparse.Namespace, extra: Sequence[str]) -> list[Job]:
    """Returns every point with its command; all are checked before a sweep begins."""
    study = _study(options.module)
    place.check(options.workdir)
    work = []
    for point in points.make(options.set, options.points):
        folder = options.workdir / point.name
        flags = [f"--config={options.config}", f"--workdir={folder}", *extra, *point.arguments()]
        try:
            config, workdir = config_lib.parse(flags, "")
            if workdir != folder:
                raise UserError(f"the points' folders are the sweep's: --workdir={options.workdir}")
            done = study_lib.finished(study, folder, config_lib.resolve(config))
        except UserError as error:
            raise UserError(f"point {point.name}: {error}") from error
        command = (sys.executable, "-m", options.module, *flags)
        work.append(Job(point, folder, Child(command), done))
    return work


def _study(module: str) -> Study:
    """What a --module does."""
    try:
        study = importlib.import_module(module).STUDY
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UserError(f"--module cannot be swept: {reason(error)} (see --help)") from error
    if not isinstance(study, Study):
        raise UserError(f"--module cannot be swept: {short(module)}.STUDY is no Study (see --help)")
    return study


def _show_plan(work: Sequence[Job], options: argparse.Namespace) -> None:
    for job in work:
        typed = cli.as_typed(job.child.command)
        print(f"# finished: {job.folder}" if job.finished else typed)
    left = sum(not job.finished for job in work)
    if options.executor == "slurm" and left:
        slurm_array = slurm.submitit_side()
        made = slurm_array.executor(options, _logs(options), "sweep", options.parallel or left)
        print(f"# sbatch, an array with a point an element\n{slurm_array.script(made, left)}")
        print(slurm_gpus.layout(options).told(), end="")


def _run(
    todo: Mapping[str, Child],
    options: argparse.Namespace,
    say: Any,
    folders: Mapping[str, Path] | None = None,
) -> dict[str, Outcome]:
    """Run the children on the executor; SIGTERM and a lost terminal are answered as Ctrl-C is."""
    numbers = [signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under `nohup`
        numbers.remove(signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        if options.executor == "slurm":
            return slurm.submitit_side().run_array(todo, _logs(options), options, say)
        return jobs.run_local(todo, _logs(options), options.parallel or 1, say, folders)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _logs(options: argparse.Namespace) -> Path:
    return options.workdir / "jobs"


def _report(
    work: Sequence[Job], outcomes: Mapping[str, Outcome], options: argparse.Namespace
) -> None:
    """The table of all points, `results.csv` and the overlaid figure."""
    done = [job for job in work if outcomes[job.point.name].state == "finished"]
    if not done:
        return
    compared = _study(options.module).compare([job.folder for job in done])
    keys = list(dict.fromkeys(key for job in work for key in job.point.overrides))
    rows = dict(zip((job.point.name for job in done), compared.rows, strict=True))
    _write_csv(options.workdir / "results.csv", keys, done, compared.records)
    lines = []
    for job in work:
        name = job.point.name
        cells = rows.get(name) or [outcomes[name].state, *[""] * (len(compared.header) - 1)]
        lines.append([*(job.point.overrides.get(key, "") for key in keys), *cells])
    shown = ([*keys, *compared.header], lines)
    tables.show(f"{options.workdir}: each point", shown, keys=len(keys))
    terminal.say(f"table: {options.workdir / 'results.csv'}")
    terminal.say(f"report: {compared.page}")


def _write_csv(
    path: Path, keys: Sequence[str], done: Sequence[Job], records: Sequence[Mapping[str, Any]]
) -> None:
    """Write one row for each point, branch and level, with the point's overrides."""
    overrides = {job.folder.name: job.point.overrides for job in done}
    rows = [{**record, **overrides[record["run"]]} for record in records]
    fields = (field for record in records for field in record)  # some lack what others have
    columns = list(dict.fromkeys(["run", *keys, *fields]))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run_main(main)
