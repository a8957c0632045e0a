import ast
import shlex

import pytest

import architectures
from compress import main, spec
from experiment import config as config_lib
from experiment import data, optim
from tests.conftest import ROOT

FOLDER = ROOT / "configs/compress"
FILES = sorted(path.name for path in FOLDER.glob("[a-z]*.py"))
SHAPES = {"digits": (8, 8, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", FILES)
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    config = config_lib.resolve(config_lib.load(f"configs/compress/{name}"))
    checked = spec.from_config(config)
    optim.make(checked.optimizer, checked.train.steps)
    optim.make(checked.fine_tune_optimizer, checked.fine_tune.steps)
    config_lib.build(data.DataSpec, config["data"], "data")
    model = architectures.build(config, 10)
    height, width, channels = SHAPES[config["data"]["name"]]
    pad = 2 * config["data"]["pad"]
    architectures.shapes(model, (height + pad, width + pad, channels))
    assert spec.nodes(checked)[-1].leaf


@pytest.mark.parametrize("name", [name for name in FILES if name != "base.py"])
def test_the_commands_of_a_docstring_can_be_typed(name):
    docstring = ast.get_docstring(ast.parse((FOLDER / name).read_text())) or ""
    lines = docstring.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip().startswith("python -m")]
    assert commands
    for words in commands:
        assert words[:3] == ["python", "-m", "compress.main"]
        config, _ = config_lib.parse(words[3:], main.STUDY.usage)
        spec.from_config(config_lib.resolve(config))
