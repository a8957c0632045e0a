"""python -m groundwork.compare RUN [RUN…]: the networks of any runs, of any commands, side by side.

Writes `survey/` beside the first run (here, if it is in a bucket): report.html, where axes are
chosen, networks are filtered and the Pareto front is drawn; networks.csv and networks.tex have the
same numbers.

A command takes part if its `report` has `records(name, folder)`: one record per network, field →
value, with the `run` (its name here) and, of each measure, `MEASURE_mean` and `MEASURE_deviation`
over `replicates`. `groundwork.report.survey` has words for the usual costs, such as `macs`.
"""

import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundwork import buckets, copies, terminal
from groundwork.entry import run_main
from groundwork.errors import UserError, check_text
from groundwork.metric import ACCURACY, Metric
from groundwork.report import comparison, survey, tables
from groundwork.runs import identity

FOLDER = "survey"


def compare(folders: Sequence[Path]) -> Path:
    """Writes the survey of some runs; returns the path of its page.

    Args:
      folders: of runs, of any commands.

    Raises:
      UserError: a folder has no run with a finished network, or one of a command that tells none.

    Example:
        >>> import sys, types
        >>> from pathlib import Path
        >>> from groundwork.compare import compare
        >>> Path("run").mkdir()
        >>> size = Path("run/config.json").write_text('{"command": "forest", "config": {}}')
        >>> records = lambda name, folder: [{"run": name, "bytes": 96, "accuracy_mean": 0.75}]
        >>> sys.modules["forest.report"] = types.SimpleNamespace(records=records)  # a command's own
        >>> compare([Path("run")]).with_name("networks.csv").read_text().split()
        ['run,command,accuracy_mean,bytes', 'run,forest,0.75,96']
    """
    return survey.write(Path(folders[0]).resolve().parent / FOLDER, *_networks(folders))


def _networks(folders: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Returns one record per network; and for each measure whether more of it is better."""
    found: list[dict[str, Any]] = []
    signs: dict[str, int] = {}
    for name, folder in zip(comparison.names(folders), folders, strict=True):
        about = identity.read_about(Path(folder))
        metric = Metric(**about["metric"]) if "metric" in about else ACCURACY
        signs[f"{metric.name}_mean"] = metric.sign
        command = about["command"]
        found += [{**record, "command": command} for record in _records(command, name, folder)]
    return found, signs


def _records(command: str, name: str, folder: Path) -> list[dict[str, Any]]:
    """Returns what a command's own report knows of the networks of a run."""
    report: Any = None
    with contextlib.suppress(ModuleNotFoundError):
        report = importlib.import_module(f"{command}.report")
    if not hasattr(report, "records"):
        raise UserError(f"{folder} holds a run of {command}, which has no networks to compare")
    return report.records(name, folder)


def main(argv: Sequence[str]) -> None:
    """Compares the runs that are named on the command line."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return
    check_text(argv)
    for folder in argv:
        if not folder or folder.startswith("-"):
            raise UserError(f"{folder!r} is no folder: give the folders of runs")
    folders = [copies.near(folder) for folder in argv]
    networks, signs = _networks(folders)
    tables.show("networks", survey.table(networks), keys=2)
    beside = Path() if buckets.is_url(argv[0]) else Path(folders[0]).resolve().parent
    terminal.say(f"report: {survey.write(beside / FOLDER, networks, signs)}")


if __name__ == "__main__":
    run_main(main)
