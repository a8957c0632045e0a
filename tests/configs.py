"""What is asked of every command's configs."""

import ast
import shlex
from typing import Any

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.study import Study
from groundwork.train import optim
from tests.conftest import ROOT

SHAPES = {
    "cifar10": (32, 32, 3),
    "digit_canvases": (64, 64, 1),
    "digits": (8, 8, 1),
    "fashion_mnist": (28, 28, 1),
    "photographs": (224, 224, 3),
}


def files(command: str) -> list[str]:
    """Names of its configs, `base.py` among them; not those of a command inside the package."""
    found = sorted(path.name for path in (ROOT / "configs" / command).glob("[a-z]*.py"))
    return [name for name in found if not name.startswith(("early_bird_", "stability_"))]


def experiments(command: str) -> list[str]:
    """Those that are experiments."""
    return [name for name in files(command) if name != "base.py"]


def passes(command: str, name: str, study: Study) -> Any:
    """The spec of a config that trains and fine-tunes one network, whose parts are all made."""
    config = config_lib.resolve(config_lib.load(f"configs/{command}/{name}"))
    checked = study.check(config)
    optim.make(checked.optimizer, checked.train.steps)
    optim.make(checked.fine_tune_optimizer, checked.fine_tune.steps)
    config_lib.build(data_lib.DataSpec, config["data"], "data")
    model = architectures.build(config, 10)
    height, width, channels = SHAPES[config["data"]["name"]]
    pad = 2 * config["data"]["pad"]
    architectures.shapes(model, (height + pad, width + pad, channels))
    return checked


def commands_can_be_typed(command: str, name: str, study: Study) -> None:
    """There are commands in the docstring, and the command line takes them."""
    path = ROOT / "configs" / command / name
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = docstring.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.strip().startswith("python -m")]
    assert commands
    for words in commands:
        assert words[:3] == ["python", "-m", f"{command}.main"]
        config, _ = config_lib.parse(words[3:], study.usage)
        study.check(config_lib.resolve(config))
