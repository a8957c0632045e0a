"""The project as a package: its metadata, its wheel, and the wheel where a user installs it."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.conftest import CACHE, ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PACKAGES = ["compress", "deploy", "groundwork", "launch", "lottery", "lowrank", "msdnet", "pruning"]
SCRIPTS = ["compress", "deploy", "lottery", "lowrank", "msdnet", "pruning"]


def pins(file):
    """Name → version, of a file of requirements alone."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line[0] not in "#-"]
    return dict(re.sub(r"\[.*\]", "", line).split("==") for line in lines)


def ranges(requirements):
    """Name → range, without what extras have of each other."""
    parsed = [Requirement(text) for text in requirements]
    return {r.name: r.specifier for r in parsed if r.name != PROJECT["name"]}


# metadata


@pytest.mark.parametrize(
    "extra", ["", "buckets", "cpu", "deploy", "dev", "docs", "launch", "search", "tfds"]
)
def test_each_pin_lies_in_its_range(extra):
    optional = PROJECT["optional-dependencies"]
    assert sorted(optional) == [
        "cpu", "deploy", "dev", "docs", "gs", "launch", "s3", "search", "tfds",
    ]  # fmt: skip
    optional = {**optional, "buckets": [*optional["gs"], *optional["s3"]]}
    pinned = pins(f"requirements-{extra}.txt" if extra else "requirements.txt")
    allowed = ranges(optional[extra] if extra else PROJECT["dependencies"])
    assert pinned.keys() == allowed.keys()
    assert [name for name in pinned if not allowed[name].contains(pinned[name])] == []
    assert [name for name in allowed if not str(allowed[name]).startswith(">=")] == []


def test_the_version_and_the_licence_are_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert PROJECT["license"] == "Apache-2.0"
    assert "\nlicense: Apache-2.0\n" in citation
    assert PROJECT["license-files"] == ["LICENSE"]
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in licence
    assert "[Apache-2.0](LICENSE)" in (ROOT / "README.md").read_text()


def test_the_makefile_lets_in_the_pythons_that_the_project_does():
    allowed = SpecifierSet(PROJECT["requires-python"])
    makefile = (ROOT / "Makefile").read_text()
    low, high = re.findall(r"\((3), (\d+)\)", makefile)
    accepted = [minor for minor in range(8, 20) if int(low[1]) <= minor < int(high[1])]
    assert accepted == [minor for minor in range(8, 20) if f"3.{minor}.1" in allowed]
    assert f"Python 3.{accepted[0]} to 3.{accepted[-1]}" in makefile


def test_the_same_packages_are_shipped_and_checked_and_all_are_typed():
    shipped = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert sorted(shipped) == sorted([*PACKAGES, "configs"])
    assert sorted(PYPROJECT["tool"]["mypy"]["packages"]) == sorted([*shipped, "website"])
    assert sorted(PYPROJECT["tool"]["importlinter"]["root_packages"]) == sorted(shipped)
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").exists()] == []
    assert PROJECT["scripts"] == {name: f"{name}.main:run" for name in SCRIPTS}


# the wheel


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the source distribution, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build; hatchling.build.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (source,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel, which finds its dependencies in the running one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    pip("--python", folder / "bin/python", "install", "--no-deps", "--no-index", wheel)
    return folder / "bin"


def files(folder):
    """What a package's folder has beside Python's own leavings."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if "__pycache__" not in name and not name.startswith("build/")}


def test_the_wheel_has_all_that_runs_and_no_names_beside(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    info = f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    assert sorted({name.split("/")[0] for name in names}) == sorted([*PACKAGES, info])
    assert f"{info}/licenses/LICENSE" in names
    needed = {f"groundwork/configs/{name}" for name in files(ROOT / "configs")}
    for package in PACKAGES:
        needed |= {f"{package}/{name}" for name in files(ROOT / package)}
    of_clones = r"launch/(reproduce/.*|tpu_(pod|slice)\.sh|kubernetes/Dockerfile.*)|.*/cpu/build/.*"
    needed = {name for name in needed if not re.fullmatch(of_clones, name)}
    assert {name for name in names if not name.startswith(info)} == needed


TINY = [
    "--config.replicates=1",
    "--config.levels=1",
    "--config.train.steps=20",
    "--config.eval_every=10",
    "--config.model.width=0.1",
    "--config.branches.random_reinit=()",
    "--config.branches.random_mask=()",
    "--config.branches.small_dense=()",
]
MINE = """'''A story of mine.'''
import mine_too
from configs.lottery import digits
get_config = digits.get_config
"""


@pytest.fixture
def typed(installed, tmp_path):
    """Types a command in a user's folder, which has packages `configs` and `tests` of its own."""
    for package in ("configs", "tests"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "base.py").write_text("raise SystemExit('a module of the user')")

    def run(program, *arguments):
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
        env.pop("PYTHONPATH", None)
        return subprocess.run(
            [installed / program, *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.slow
def test_an_installed_command_runs_a_shipped_config_in_a_foreign_folder(typed, tmp_path):
    one = typed("lottery", "--config=lottery/digits.py", *TINY)
    assert one.returncode == 0, one.stderr
    assert "levels/01/ticket  done" in one.stderr
    run = tmp_path / "runs/digits"
    about = json.loads((run / "config.json").read_text())
    assert about["command"] == "lottery"
    assert about["commit"] == f"version {PROJECT['version']}"
    rows = (run / "metrics.jsonl").read_bytes()
    again = typed("python", "-m", "lottery.main", "--config=configs/lottery/digits.py", *TINY)
    assert again.returncode == 0, again.stderr
    assert "warning" not in one.stderr + again.stderr
    assert again.stdout == one.stdout
    assert (run / "metrics.jsonl").read_bytes() == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configs", "runs", "tests"]


@pytest.mark.slow
def test_an_installed_command_helps_refuses_and_takes_a_users_own_files(typed, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine_too.py").write_text("")
    helped = typed("lottery", "--config=mine.py", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: lottery --config=FILE")
    assert "A story of mine." in helped.stdout
    assert "--config.prune.rate={'*': 0.5, 'output': 0.25}" in helped.stdout
    plain = typed("python", "-m", "lottery.main", "--help")
    assert plain.stdout.startswith("usage: python -m lottery.main --config=FILE")
    refused = typed("msdnet", "--config=msdnet/digit.py")
    assert (refused.returncode, refused.stdout) == (2, "")
    said = f"config file msdnet/digit.py does not exist in {tmp_path}"
    assert refused.stderr == f"error: {said}; did you mean msdnet/digits.py?\n"
    build = typed("python", "-m", "groundwork.architectures.cpu.build", "--onednn=nowhere")
    assert build.returncode == 1
    assert re.fullmatch("no oneDNN 3 under .*: pip install onednn.* --onednn=DIR\n", build.stderr)
    remedy = "from groundwork.architectures.cpu import library; print(library.remedy())"
    said = typed("python", "-c", remedy).stdout
    assert said == "python -m groundwork.architectures.cpu.build\n"


@pytest.mark.slow
def test_the_lines_of_a_network_of_ones_own_run_in_an_empty_folder(installed, tmp_path):
    page = (ROOT / "docs/own.md").read_text()
    (code,) = re.findall(r"Write `mine.py`:\n```python\n(.*?)```", page, re.DOTALL)
    (lines,) = re.findall(r"```\npip install path/to/the/clone\n(.*?)```", page, re.DOTALL)
    assert len((code + lines).splitlines()) < 29
    (tmp_path / "mine.py").write_text(code)
    less = "lottery --config.replicates=2 --config.train.steps=20 --config.eval_every=10"
    lines = lines.replace("lottery --config", f"{less} --config", 1)
    environment = {**os.environ, "PATH": f"{installed}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    ran = subprocess.run(
        ["bash", "-ec", lines],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "test accuracy" in ran.stdout
    assert "'hidden/kernel': array(" in ran.stdout
    assert (tmp_path / "runs/mine/report.html").is_file()
