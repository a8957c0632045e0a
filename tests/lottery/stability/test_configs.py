"""Shipped configs of lottery.stability."""

import ast
import shlex

import pytest

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.train import optim
from lottery.stability import main
from tests.conftest import ROOT

FILES = sorted(path.name for path in (ROOT / "configs/lottery").glob("stability_*.py"))
SHAPES = {"digits": (8, 8, 1), "fashion_mnist": (28, 28, 1)}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", FILES)
def test_a_config_passes_and_its_parts_are_made(name):
    config = config_lib.resolve(config_lib.load(f"configs/lottery/{name}"))
    checked = main.STUDY.check(config)
    optim.make(checked.optimizer, checked.train.steps)
    config_lib.build(data_lib.DataSpec, config["data"], "data")
    architectures.shapes(architectures.build(config, 10), SHAPES[config["data"]["name"]])
    base = config_lib.resolve(config_lib.load("configs/lottery/stability_base.py"))
    assert config_lib.flatten(config).keys() == config_lib.flatten(base).keys()


@pytest.mark.parametrize("name", [name for name in FILES if name != "stability_base.py"])
def test_the_docstring_has_the_command_and_its_source(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "configs/lottery" / name).read_text()))
    assert "arXiv:1912.05671" in docstring
    lines = docstring.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip().startswith("python -m")]
    assert commands[-1][2] == "lottery.stability.main"
    assert f"--config=configs/lottery/{name}" in commands[-1]
    config, _ = config_lib.parse(commands[-1][3:], main.STUDY.usage)
    main.STUDY.check(config_lib.resolve(config))
