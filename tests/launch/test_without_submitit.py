"""Where `requirements.txt` alone is installed: only Slurm lacks something, and says what."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPT = """
import contextlib, importlib, io, json, pkgutil, sys
from pathlib import Path
sys.modules["submitit"] = None  # an import of it fails
import launch
from groundwork.errors import UserError
from launch import jobs, jobset, slurm, sweep
from launch.child import Child

names = [module.name for module in pkgutil.iter_modules(launch.__path__)]
imported = []
for name in names:
    with contextlib.suppress(ImportError):
        importlib.import_module(f"launch.{name}")
        imported.append(name)

def said(main, *argv):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main(argv)
        except UserError as error:
            return f"error: {error}"
    return out.getvalue()

point = ["--config=lottery/digits.py", "--workdir=sweep", "--set", "seed=0,1"]
word = ["--", "python", "-m", "lottery.main"]
ran = jobs.run_local({"a": Child((sys.executable, "-c", "1"))}, Path("logs"), 1, lambda _: None)
print(json.dumps({
    "lacking": sorted({*names} - {*imported}),
    "ran": ran["a"].state,
    "sweep": said(sweep.main, *point, "--dry-run"),
    "sweep onto slurm": said(sweep.main, *point, "--executor=slurm"),
    "slurm": said(slurm.main, *word),
    "slurm, to look at": said(slurm.main, "--dry-run", *word),
    "jobset": said(jobset.main, "--name=n", "--image=i", "--dry-run", *word),
    "made": [path.name for path in Path().iterdir()],
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path_factory.mktemp("here"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_but_one_module_are_imported_and_points_run_on_this_machine(seen):
    assert seen["lacking"] == ["slurm_array"]
    assert seen["ran"] == "finished"
    assert seen["sweep"].count("-m lottery.main --config=lottery/digits.py") == 2
    assert seen["jobset"].startswith("# kubectl get jobset")


@pytest.mark.parametrize("what", ["sweep onto slurm", "slurm", "slurm, to look at"])
def test_slurm_says_what_to_install(seen, what):
    assert seen[what].startswith("error: Slurm needs submitit (")
    assert "pip install -r requirements-launch.txt" in seen[what]
    assert "extra `launch`" in seen[what]
    assert "\n" not in seen[what]
    assert seen["made"] == ["logs"]
