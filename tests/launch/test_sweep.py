"""A sweep runs what is not finished, says what failed and why, and tabulates everything."""

import csv
import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork import study
from groundwork.errors import UserError
from launch import sweep
from lottery import main
from tests import browser
from tests.conftest import CACHE, ROOT
from tests.lottery import small

pytestmark = pytest.mark.slow

DIGITS = "--config=configs/lottery/digits.py"
SMALL = [a for a in small.ARGS if a != DIGITS and "levels" not in a and "small_dense" not in a]
FEW = [
    "--config.levels=1",
    "--config.train.steps=30",
    "--config.rewind.step=0",
    "--config.data.validation_examples=0",
    "--config.branches.random_reinit=()",
]
PYTHON = sys.executable


def run(folder, *flags, extra=(*SMALL, *FEW)):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    command = [PYTHON, "-m", "launch.sweep", DIGITS, f"--workdir={folder}", *flags, "--", *extra]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep with a point that cannot run, since the data has no such split."""
    folder = tmp_path_factory.mktemp("sweep") / "rates"
    with run(
        folder, "--set", "prune.rate={'*': 0.5, 'output': 0.2},0.5,{'fc1': 0.5}", "--parallel=2"
    ) as process:
        out, err = process.communicate(timeout=200)
    return folder, process.returncode, out, err


def test_every_point_is_a_run_in_a_folder_of_its_name(swept):
    folder, *_ = swept
    names = {path.name for path in folder.iterdir() if (path / "report.html").is_file()}
    assert names == {"prune.rate=0.5", "prune.rate=0.5_output_0.2~d3cc95", "comparison"}


def test_a_point_that_fails_is_listed_with_its_reason_and_the_sweep_fails(swept):
    _, code, _, err = swept
    assert code == 1
    failed, hint = err.splitlines()
    assert failed.startswith("failed prune.rate=fc1_0.5~")
    assert "prune.rate: no rate for layer 'fc2'" in failed
    assert hint == "the same command starts these points again"


def test_the_table_has_all_points_with_mean_and_spread_at_the_last_level(swept):
    folder, _, out, _ = swept
    for name in ("prune.rate=0.5", "prune.rate=0.5_output_0.2~d3cc95"):
        for unit in ("levels/01/ticket", "levels/01/random_mask", "levels/00/ticket"):
            ends = [
                row["accuracy"]
                for row in small.rows(folder / name)
                if row["unit"] == unit and row.get("at") == "end"
            ]
            assert len(ends) == 2
            assert f"{np.mean(ends):.3f}±{np.std(ends, ddof=1):.3f}" in out
    assert re.search(r"\{'fc1': 0.5\} +failed", out)
    assert "{'*': 0.5, 'output': 0.2}" in out


def test_the_file_has_a_row_a_point_branch_and_level(swept):
    folder, *_ = swept
    with open(folder / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3  # dense, and ticket and random_mask at level 1
    (row,) = (
        r for r in rows if (r["prune.rate"], r["branch"], r["level"]) == ("0.5", "random_mask", "1")
    )
    ends = [
        r["accuracy"]
        for r in small.rows(folder / "prune.rate=0.5")
        if r["unit"] == "levels/01/random_mask" and r.get("at") == "end"
    ]
    assert float(row["accuracy_mean"]) == np.mean(ends)
    assert float(row["accuracy_deviation"]) == pytest.approx(np.std(ends, ddof=1))
    assert int(row["replicates"]) == 2


def test_the_page_has_the_points_that_ended_and_a_figure(swept, chromium):
    folder, _, out, _ = swept
    page = (folder / "comparison/report.html").read_text()
    assert f"report: {folder / 'comparison/report.html'}\n" in out
    assert page.count("data:image/png;base64,") == 1
    for name in ("prune.rate=0.5", "prune.rate=0.5_output_0.2~d3cc95"):
        assert f"<th scope='row'>{name}</th>" in page
    browser.check(chromium, folder / "comparison/report.html")


def test_finished_points_are_passed_over_and_the_rest_printed(swept, capsys):
    folder, *_ = swept
    flags = ["--set", "prune.rate=0.5,0.3", "--dry-run"]
    sweep.main([DIGITS, f"--workdir={folder}", *flags, "--", *SMALL, *FEW])
    finished, command = capsys.readouterr().out.splitlines()
    assert finished == f"# finished: {folder}/prune.rate=0.5"
    words = [PYTHON, "-m", "lottery.main", DIGITS, f"--workdir={folder}/prune.rate=0.3"]
    words += [*SMALL, *FEW, "--config.prune.rate=0.3"]
    assert command == shlex.join(words)


def test_a_run_that_is_not_this_point_is_not_taken_for_it(swept):
    folder, *_ = swept
    flags = [DIGITS, f"--workdir={folder}", "--set", "prune.rate=0.5", "--dry-run"]
    with pytest.raises(UserError, match=r"point prune.rate=0.5: .*train.steps is 30 there, 40"):
        sweep.main([*flags, "--", *SMALL, *FEW, "--config.train.steps=40"])


def test_more_levels_are_not_finished(swept, capsys):
    folder, *_ = swept
    flags = [DIGITS, f"--workdir={folder}", "--set", "prune.rate=0.5", "--dry-run"]
    sweep.main([*flags, "--", *SMALL, *FEW, "--config.levels=2"])
    assert "finished" not in capsys.readouterr().out


def test_a_damaged_or_missing_unit_is_not_finished(swept, tmp_path, capsys):
    folder, *_ = swept
    copy = tmp_path / "copy"
    shutil.copytree(folder / "prune.rate=0.5", copy / "prune.rate=0.5")
    shutil.rmtree(copy / "prune.rate=0.5/checkpoints/levels/01/random_mask")
    flags = [DIGITS, f"--workdir={copy}", "--set", "prune.rate=0.5", "--dry-run"]
    sweep.main([*flags, "--", *SMALL, *FEW])
    assert "finished" not in capsys.readouterr().out


def test_as_an_array_of_slurm(swept, capsys):
    folder, *_ = swept
    flags = ["--set", "prune.rate=0.5,0.3,0.1", "--executor=slurm", "--dry-run", "--partition=gpu"]
    flags += ["--gpus-per-node=2", "--tasks-per-node=1"]
    sweep.main([DIGITS, f"--workdir={folder}", *flags, "--parallel=1", "--", *SMALL, *FEW])
    assert "#SBATCH --array=0-1%1\n" in capsys.readouterr().out
    sweep.main([DIGITS, f"--workdir={folder}", *flags, "--", *SMALL, *FEW])
    out = capsys.readouterr().out
    assert "#SBATCH --array=0-1%2\n" in out  # all at once
    assert out.endswith("\n# with JAX_LOCAL_DEVICE_IDS by its number on the node: 0,1\n")
    assert "#SBATCH --partition=gpu\n" in out
    assert f"#SBATCH --output={folder}/jobs/%A_%a_0_log.out\n" in out


REFUSED = {
    "Slurm's flags without Slurm": (
        ["--set", "prune.rate=0.1", "--nodes=4"],
        "--nodes is about jobs on Slurm: it needs --executor=slurm",
    ),
    "no time to work": (
        ["--set", "prune.rate=0.1", "--executor=slurm", "--save-seconds=3600"],
        "leave time to work in",
    ),
    "a profile of nothing": (
        ["--set", "prune.rate=0.1", "--", "--profile=5:3"],
        "--profile=5:3 must be FIRST:STOP",
    ),
    "an unknown key": (["--set", "prune.rte=0.1"], "point prune.rte=0.1: .*'config.prune.rate'"),
    "a wrong value": (["--set", "levels=1,-1"], "point levels=-1: levels=-1 must be at least 0"),
    "an unknown network": (
        ["--set", "model.name=lenet_5,nosuch"],
        "point model.name=nosuch: unknown model 'nosuch'",
    ),
    "a wrong width": (["--set", "model.width=1.0,-1.0"], "point model.width=-1.0: model.width=-1"),
    "wrong data": (["--set", "data.pad=0,-1"], "point data.pad=-1: data.pad=-1 must be"),
    "another workdir": (["--set", "seed=0", "--", "--workdir=x"], "the points' folders"),
    "GPUs without a task": (
        ["--set", "seed=0", "--executor=slurm", "--gpus-per-node=8", "--tasks-per-node=3"],
        "must divide 8",
    ),
    "none at a time": (["--set", "seed=0", "--parallel=0"], "--parallel: 0 must be at least 1"),
    "the end of flags for a value": (["--set=--"], "--set=--: the value -- has a meaning"),
    "no folder": (["--set", "seed=0", "--workdir="], "--workdir: it is empty"),
    "a study of another kind": (["--set", "seed=0", "--module=shlex:a"], "cannot be swept"),
    "a relative module": (["--set", "seed=0", "--module=..main"], "cannot be swept: TypeError"),
    "too many points": (
        ["--set", "seed=" + "1," * 10_000 + "2"],
        "10,001 points, and may be 10,000",
    ),
    "nothing to vary": ([], "nothing to vary"),
    "an unknown module": (["--set", "seed=0", "--module=lottery.mine"], "lottery.mine"),
    "a module of another kind": (["--set", "seed=0", "--module=pruning.masks"], "'STUDY'"),
    "an unknown flag": (["--sett", "seed=0"], "--help has all flags"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_before_anything_starts(case, tmp_path):
    flags, said = REFUSED[case]
    with pytest.raises(UserError, match=said):
        sweep.main([DIGITS, f"--workdir={tmp_path / 'sweep'}", *flags])
    assert not (tmp_path / "sweep").exists()


def test_what_a_new_point_consists_of_is_not_listed_to_see_that_it_is_not_finished(tmp_path):
    """It may be without end, as with levels=2147483647."""
    endless = dataclasses.replace(main.STUDY, units=lambda spec: pytest.fail("it was listed"))
    config = config_lib.resolve(config_lib.load("lottery/digits.py"))
    assert not study.finished(endless, tmp_path / "new", config)


WAITING = """
import signal, sys, time
from pathlib import Path
def save(*_):
    Path(sys.argv[1] + ".saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1] + ".ready").touch()
time.sleep(60)
"""
STOPPED = """
import sys
from pathlib import Path
from groundwork.entry import run_main
from launch import jobs
from launch.child import Child
children = {n: Child((sys.executable, sys.argv[1], f"{sys.argv[2]}/{n}")) for n in "abc"}
run_main(lambda _: jobs.run_local(children, Path(sys.argv[2]) / "jobs", 2, print))
"""


def test_ctrl_c_lets_the_running_points_save_and_says_how_to_go_on(tmp_path):
    """As a terminal sends it: to every process of the foreground group."""
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "stopped.py").write_text(STOPPED)
    with subprocess.Popen(
        [PYTHON, tmp_path / "stopped.py", tmp_path / "waiting.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + 20
        while not all((tmp_path / f"{name}.ready").exists() for name in "ab"):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "\ninterrupted; the same command continues\n"
    assert "stopping: waiting until a, b has saved" in out
    assert {path.name for path in tmp_path.glob("*.saved")} == {"a.saved", "b.saved"}
    assert out.count("stopped ") == 2
    assert "started c" not in out
