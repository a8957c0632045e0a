"""The scripts of the papers: their commands, and one of them run at toy scale."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress import spec as compress_spec
from compress.search import spec as search_spec
from groundwork import architectures
from groundwork import config as config_lib
from launch import points
from lottery import spec as lottery_spec
from lottery.early_bird import spec as early_bird_spec
from lottery.stability import spec as stability_spec
from msdnet import spec as msdnet_spec
from pruning import kinds
from pruning import spec as pruning_spec
from tests.conftest import CACHE, ROOT

SPECS: dict[str, Any] = {
    "compress": compress_spec,
    "compress.search": search_spec,
    "lottery": lottery_spec,
    "lottery.early_bird": early_bird_spec,
    "msdnet": msdnet_spec,
    "pruning": pruning_spec,
}
SCRIPTS = sorted(p for p in (ROOT / "launch/reproduce").glob("*.sh") if p.name != "common.sh")
SEVERAL = ("compact_", "engines_", "methods_", "stability_")
OF_ONE_COMMAND = [path for path in SCRIPTS if not path.name.startswith(SEVERAL)]


def run(script, *flags):
    """From elsewhere, as a user may."""
    environment = {**os.environ, "PYTHON": sys.executable, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
    return subprocess.run(
        [ROOT / "launch/reproduce" / script, *flags],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


def commands(script, *flags):
    done = run(script, "--dry-run", *flags)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_there_is_a_script_for_each_figure():
    assert [path.name for path in SCRIPTS] == [
        "compact_fashion_mnist.sh", "early_bird_fashion_mnist.sh", "engines_fashion_mnist.sh",
        "lenet_fashion_mnist.sh", "lenet_mnist.sh", "methods_conv2.sh", "methods_fashion_mnist.sh",
        "mnist1d.sh", "pruning_cifar10.sh", "pruning_fashion_mnist.sh", "search_digits.sh",
        "stability_fashion_mnist.sh", "text_pydoc.sh", "transfer_fashion_mnist.sh",
    ]  # fmt: skip


def test_dry_run_prints_every_command():
    data = ["--config.data.source=idx", "--config.data.dir=/some where"]
    assert commands("lenet_mnist.sh", "--runs=/tmp/r", "--", *data) == [
        [
            sys.executable, "-m", "lottery.main", "--config=configs/lottery/lenet_mnist.py",
            "--workdir=/tmp/r/lenet_mnist", "--config.replicates=5",
            "--config.branches.random_mask=all", *data,
        ],
        [sys.executable, "-m", "lottery.report", "/tmp/r/lenet_mnist"],
    ]  # fmt: skip
    *mains, report = commands("mnist1d.sh")
    assert [main[3:] for main in mains] == [
        [f"--config=configs/lottery/{name}.py", f"--workdir=runs/reproduce/{name}"]
        for name in ("mnist1d", "mnist1d_full")
    ]
    assert report[3:] == ["runs/reproduce/mnist1d", "runs/reproduce/mnist1d_full"]


@pytest.mark.parametrize("script", OF_ONE_COMMAND, ids=lambda path: path.name)
@pytest.mark.parametrize("flags", [[], ["--smoke"]], ids=["full", "smoke"])
def test_every_command_is_one_that_the_main_accepts(script, flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(search_spec.evolve, "check_installed", lambda: None)
    *mains, report = commands(script.name, *flags)
    folders = []
    begins = {"pruning": "pruning", "early": "lottery.early_bird", "search": "compress.search"}
    command = begins.get(script.name.partition("_")[0], "lottery")
    for _, _, module, *arguments in mains:
        assert module == f"{command}.main"
        config, folder = config_lib.parse(arguments, "")
        checked = SPECS[command].from_config(config_lib.resolve(config))
        folders.append(str(folder))
        if flags:
            assert config.data.source in ("digits", "mnist1d", "text")
            train = getattr(checked, "compress", checked).train
            assert getattr(checked, "levels", 1) * train.steps <= 100
    assert report[2:] == [f"{command}.report", *folders]


def configs_of(sweep):
    """The config of each point of a sweep of pruning.main, as it would be resolved."""
    assert sweep[:2] == ["-m", "launch.sweep"]
    config_file, file = (
        next(word.partition("=")[2] for word in sweep if word.startswith(flag))
        for flag in ("--config=", "--points=")
    )
    shared = sweep[sweep.index("--") + 1 :]
    found = points.make([], Path(file))
    assert len(found) >= 10
    for point in found:
        arguments = [f"--config={config_file}", "--workdir=x", *shared, *point.arguments()]
        config, _ = config_lib.parse(arguments, "")
        yield config_lib.resolve(config)


@pytest.mark.parametrize("flags", [[], ["--smoke"]], ids=["full", "smoke"])
def test_every_compact_network_is_one_that_can_be_built(flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    (sweep,) = commands("compact_fashion_mnist.sh", *flags)
    built = []
    for config in configs_of(sweep[1:]):
        checked = kinds.check(config)
        assert bool(checked.prune.points) == (config["model"]["name"] == "vgg_11")
        assert checked.train.steps == (2 if flags else 429)
        built.append(architectures.build(config, 10))
    assert len(built) == len(set(built))


@pytest.mark.parametrize("name", ["methods_fashion_mnist.sh", "methods_conv2.sh"])
@pytest.mark.parametrize("flags", [[], ["--smoke"]], ids=["full", "smoke"])
def test_every_method_is_one_that_its_main_accepts(name, flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    tickets, sweep, table = (command[1:] for command in commands(name, *flags))
    config, folder = config_lib.parse(tickets[2:], "")
    lottery_spec.from_config(config_lib.resolve(config))
    for config in configs_of(sweep):
        checked = kinds.check(config)
        assert {point.label for point in checked.prune.points} == {"0.2", "0.1", "0.05", "0.02"}
    assert table[:2] == ["-m", "launch.methods"]
    assert str(folder) in table


@pytest.mark.parametrize("flags", [[], ["--smoke"]], ids=["full", "smoke"])
def test_every_network_for_engines_is_one_that_its_main_accepts(flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    trained = []
    for _, _, module, *arguments in commands("engines_fashion_mnist.sh", *flags):
        if module == "deploy.main":
            source, workdir = arguments[:2]
            assert workdir.partition("=")[2] == source.partition("=")[2] + "-engines"
            assert source.partition("=")[2] == trained.pop(0)
        else:
            config, folder = config_lib.parse(arguments, "")
            resolved = config_lib.resolve(config)
            checked = SPECS[module.partition(".")[0]].from_config(resolved)
            assert checked.train.steps == (2 if flags else 858)
            trained.append(str(folder))
    assert not trained


@pytest.mark.parametrize("flags", [[], ["--smoke"]], ids=["full", "smoke"])
def test_tickets_of_stability_are_those_of_the_same_training(flags, monkeypatch):
    monkeypatch.chdir(ROOT)
    tickets, copies, report = commands("stability_fashion_mnist.sh", *flags)
    config, folder = config_lib.parse(tickets[3:], "")
    source = lottery_spec.from_config(config_lib.resolve(config))
    config, workdir = config_lib.parse(copies[3:], "")
    checked = stability_spec.from_config(config_lib.resolve(config))
    assert copies[2] == "lottery.stability.main"
    assert checked.stability.source == str(folder)
    assert checked.stability.levels == (source.levels,)
    for key in ("seed", "replicates", "train", "optimizer"):
        assert getattr(checked, key) == getattr(source, key)
    assert report[1:] == ["-m", "lottery.stability.report", str(workdir)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_begins_with_its_figure_its_command_its_time_and_what_to_expect(script):
    done = run(script.name, "--help")
    assert done.returncode == 0
    assert "arXiv:" in done.stdout
    assert f"launch/reproduce/{script.name}" in done.stdout
    assert "two cores" in done.stdout
    assert "Expect:" in done.stdout
    assert "shellcheck" not in done.stdout
    assert "toy=" not in done.stdout


def test_an_unknown_flag_is_one_line():
    done = run("mnist1d.sh", "--smok")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown flag --smok")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_smoke_run_ends_with_the_figures(tmp_path):
    done = run("lenet_mnist.sh", "--smoke", f"--runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    figures = {path.name for path in (tmp_path / "smoke/lenet_mnist/figures").iterdir()}
    assert {"accuracy.png", "early_stopping.png"} <= figures
    assert "random_reinit" in done.stdout
    assert Path(done.stdout.split("report: ")[-1].strip()).is_file()
