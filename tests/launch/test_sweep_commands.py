"""Sweeps of the commands beside lottery, as `test_sweep.py` has them of lottery itself."""

import contextlib
import csv
import importlib
import io
import re
from typing import NamedTuple

import matplotlib.image
import numpy as np
import pytest

from groundwork.runs import metrics
from launch import jobs, sweep
from tests import in_process
from tests.compress import small as compress
from tests.lowrank import small as lowrank
from tests.msdnet import small as msdnet

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A command at toy scale, and what its sweep is to end with."""

    flags: list[str]  # the config first
    key: str  # what is swept
    values: tuple[str, ...]  # of one alone, where the table of several is another's to test
    header: str  # a column of the table
    network: str  # a field of a row of results.csv, and its value there for …
    value: str
    unit: str  # … what this unit of the run trained
    records: int  # rows of results.csv for each point


SHORT = ["--config.train.steps=20", "--config.eval_every=10"]
TUNED = [*SHORT, "--config.fine_tune.steps=10"]
CASES = {
    "msdnet": Case(
        [*msdnet.ARGS, *SHORT, "--config.networks=('msdnet',)", "--config.msdnet.blocks=2"],
        "seed", ("1",), "last exit", "exit", "2", "networks/msdnet", 2,
    ),
    "lowrank": Case(
        [*lowrank.ARGS, *TUNED, "--config.decompose.methods=('svd',)",
         "--config.decompose.shares=(0.5,)", "--config.predict=()"],
        "seed", ("1",), "best", "network", "original", "original", 2,
    ),
    "compress": Case(
        [*compress.ARGS, *TUNED],
        "prune.rate", ("0.3", "0.5"), "original", "network", "original", "networks/original", 4,
    ),
}  # fmt: skip


def _run_here(children, logs, parallel, say, folders):
    """As `jobs.run_local`, in this process: what starts processes is tested beside lottery.

    The runs' own reports, which take seconds to draw, are tested beside their commands.
    """
    for child in children.values():
        _, module_flag, module, *flags = child.command
        assert module_flag == "-m"
        in_process.train(importlib.import_module(module).STUDY, flags)
    return {point: jobs.Outcome("finished") for point in children}


@pytest.fixture(scope="module", params=CASES)
def swept(request, tmp_path_factory):
    """Command, case, folder, and what a sweep printed."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "sweep"
    config, *flags = case.flags
    argv = [config, f"--workdir={folder}", f"--set={case.key}={','.join(case.values)}"]
    argv += [f"--module={request.param}.main", "--", *flags]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(jobs, "run_local", _run_here)
        sweep.main(argv)
    return request.param, case, folder, out.getvalue()


def _runs(case, folder):
    return {value: folder / f"{case.key}={value}" for value in case.values}


def test_the_table_has_a_row_a_point_under_the_commands_columns(swept):
    _, case, _, printed = swept
    lines = printed.splitlines()
    (place,) = (
        i for i, line in enumerate(lines) if re.match(rf" *{re.escape(case.key)} +\S", line)
    )
    assert case.header in lines[place]
    table = lines[place:]
    assert max(map(len, lines[place:-2])) <= 80  # all but the places of files
    for value in case.values:
        (row,) = (line for line in table if re.match(rf" *{re.escape(value)} +\S", line))
        assert "±" in row  # two replicates


def test_it_ends_with_the_places_of_the_file_and_of_the_page(swept):
    _, _, folder, printed = swept
    page = folder / "comparison/report.html"
    assert printed.endswith(f"table: {folder / 'results.csv'}\nreport: {page}\n")


def test_results_csv_has_every_point_with_the_accuracies_of_its_rows(swept):
    _, case, folder, _ = swept
    with open(folder / "results.csv", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    assert len(records) == len(case.values) * case.records
    for value, run in _runs(case, folder).items():
        own = [record for record in records if record["run"] == run.name]
        assert len(own) == case.records
        assert {record[case.key] for record in own} == {value}
        assert {record["replicates"] for record in own} == {"2"}
        ends = [
            row["accuracy"]
            for row in metrics.read(run / "metrics.jsonl")
            if row["unit"] == case.unit
            and row.get("at") == "end"
            and row.get(case.network, 1) in (1, 0)
        ]
        (record,) = (r for r in own if r[case.network] == case.value)
        assert float(record["accuracy_mean"]) == pytest.approx(np.mean(ends))
        assert float(record["accuracy_deviation"]) == pytest.approx(np.std(ends, ddof=1))


def test_the_page_has_the_points_and_a_figure_with_something_on_it(swept):
    _, case, folder, _ = swept
    page = (folder / "comparison/report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    for run in _runs(case, folder).values():
        assert f"<th scope='row'>{run.name}</th>" in page
    image = matplotlib.image.imread(folder / "comparison/accuracy.png")
    assert min(image.shape[:2]) > 300
    assert image[..., :3].std() > 0.02


def test_the_same_command_finds_the_points_finished(swept, monkeypatch, capsys):
    command, case, folder, printed = swept
    monkeypatch.setattr(jobs, "run_local", lambda *_: pytest.fail("it trained again"))
    config, *flags = case.flags
    argv = [config, f"--workdir={folder}", f"--set={case.key}={','.join(case.values)}"]
    sweep.main([*argv, f"--module={command}.main", "--", *flags])
    again = capsys.readouterr().out
    points = len(case.values)
    assert f"{points} point{'s' * (points > 1)}, {points} finished already" in again
    assert again.splitlines()[-6:] == printed.splitlines()[-6:]  # the table, file and page
