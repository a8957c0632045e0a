import ast
import shlex

import pytest

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.errors import UserError
from groundwork.train import optim
from lottery.early_bird import main, spec
from tests import configs
from tests.conftest import ROOT
from tests.lottery.early_bird import tiny

NAMES = sorted(path.name for path in (ROOT / "configs/lottery").glob("early_bird_*.py"))


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def loaded(name):
    return config_lib.resolve(config_lib.load(f"configs/lottery/{name}"))


def test_there_are_a_base_a_smoke_test_and_an_experiment():
    assert NAMES == [
        "early_bird_base.py", "early_bird_digits.py", "early_bird_vgg11_fashion_mnist.py"
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    checked, config = spec.from_config(loaded(name)), loaded(name)
    optim.make(checked.optimizer, checked.train.steps)
    height, width, channels = configs.SHAPES[config["data"]["name"]]
    pad = 2 * config["data"]["pad"]
    model = architectures.build(config, 10)
    shapes = architectures.shapes(model, (height + pad, width + pad, channels))
    assert "batch_stats" in shapes
    assert spec.without_effect(checked, config, []) == []
    assert config_lib.flatten(config).keys() == config_lib.flatten(loaded(NAMES[0])).keys()


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_commands_of_a_docstring_can_be_typed(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "configs/lottery" / name).read_text()))
    assert "arXiv:1909.11957" in docstring
    lines = docstring.replace("\\\n", " ").splitlines()
    (words,) = [shlex.split(line) for line in lines if line.strip().startswith("python -m")]
    assert words[:3] == ["python", "-m", "lottery.early_bird.main"]
    spec.from_config(config_lib.resolve(config_lib.parse(words[3:], main.STUDY.usage)[0]))


REFUSED = [
    ("early_bird.ratio=1.0", "early_bird.ratio=1.0 must be a share between 0 and 1"),
    ("early_bird.threshold=0.0", r"early_bird.threshold=0.0 must be in \(0, 1\]"),
    ("early_bird.bits=16", "early_bird.bits=16 must be one of 2, 3"),
    ("early_bird.every=7", "train.steps=180 must be a multiple of early_bird.every=7"),
    ("early_bird.patience=12", "12 distances need 13 epochs, but train.steps=180 has 12"),
    ("early_bird.masks=units", "early_bird.masks"),
    ("fine_tune.steps=0", "fine_tune.steps=0 must be at least 1"),
]


@pytest.mark.parametrize(("typed", "said"), REFUSED)
def test_a_wrong_key_is_refused_by_its_name(typed, said):
    argv = ["--config=configs/lottery/early_bird_digits.py", f"--config.{typed}"]
    with pytest.raises(UserError, match=said):
        spec.from_config(config_lib.resolve(config_lib.parse(argv, "")[0]))


def test_a_network_without_scales_is_refused_before_training(tmp_path):
    said = r"early_bird\.masks=channels: criterion scale: no normal.*masks=weights needs no scales"
    with pytest.raises(UserError, match=said):
        tiny.train(tmp_path / "run", "--config.model.name=lenet_300_100")
    assert not (tmp_path / "run").exists()


def test_a_penalty_that_has_no_effect_is_said():
    typed = "early_bird.penalty"
    config = loaded("early_bird_digits.py")
    config["early_bird"]["masks"] = "weights"
    (line,) = spec.without_effect(spec.from_config(config), config, [typed])
    assert line == f"{typed} has no effect: early_bird.masks=weights looks at no scales"
