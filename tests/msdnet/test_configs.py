import pytest

import msdnet
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.train import optim
from msdnet import exits, main, spec
from msdnet.networks import build, section_of
from tests import configs
from tests.conftest import ROOT

FOLDER = ROOT / "configs/msdnet"
VARIANTS = {
    "cifar10_budgeted.py": [f":{exits}" for exits in range(4, 9)],
    "cifar100_budgeted.py": [":5"],
    "imagenet.py": [":4", ":6", ":7"],
}
FILES = sorted(path.name for path in FOLDER.glob("[a-z]*.py") if path.name != "__init__.py")
CONFIGS = [name + variant for name in FILES for variant in ["", *VARIANTS.get(name, [])]]
SHAPES = {
    "digits": ((8, 8, 1), 10, 1497),
    "fashion_mnist": ((28, 28, 1), 10, 60_000),
    "cifar10": ((32, 32, 3), 10, 50_000),
    "cifar100": ((32, 32, 3), 100, 50_000),
    "imagenet2012": ((224, 224, 3), 1000, 1_281_167),
}
EXITS = {
    "cifar10_anytime.py": 11,
    "cifar100_anytime.py": 7,
    "fashion_mnist.py": 5,
    "digits.py": 3,
    "imagenet.py:4": 5,
    **{f"cifar10_budgeted.py:{n}": n for n in range(4, 9)},
}
PARAMETERS = {"cifar100_anytime.py": 3_067_960, "fashion_mnist.py": 148_544}
EPOCHS = {"cifar10_anytime.py": 300, "cifar100_budgeted.py:5": 300, "imagenet.py": 90}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def loaded(name):
    return config_lib.resolve(config_lib.load(f"configs/msdnet/{name}"))


def network(config, name="msdnet"):
    return build(name, config[section_of(name)], SHAPES[config["data"]["name"]][1])


def shape_of(config):
    (height, width, channels), *_ = SHAPES[config["data"]["name"]]
    pad = 2 * config["data"]["pad"]
    return height + pad, width + pad, channels


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    config = loaded(name)
    checked = spec.from_config(config)
    optim.make(checked.optimizer, checked.train.steps)
    config_lib.build(data_lib.DataSpec, config["data"], "data")
    for chosen in checked.networks:
        made = network(config, chosen)
        assert config["data"]["validation_examples"] >= exits.LEAST_EXAMPLES * made.exits or (
            name == "base.py"
        )


@pytest.mark.parametrize("name", EXITS)
def test_networks_have_the_exits_that_are_promised(name):
    assert network(loaded(name)).exits == EXITS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_parameters_that_are_promised(name):
    config = loaded(name)
    assert msdnet.parameters(network(config), shape_of(config)) == PARAMETERS[name]


@pytest.mark.parametrize("name", EPOCHS)
def test_epochs_and_drops_are_the_papers(name):
    config = loaded(name)
    examples = SHAPES[config["data"]["name"]][2] - config["data"]["validation_examples"]
    epoch, epochs = examples // config["train"]["batch_size"], EPOCHS[name]
    assert config["train"]["steps"] == epochs * epoch
    drops = (30, 60) if name == "imagenet.py" else (150, 225)
    assert list(config["optimizer"]["drop_steps"]) == [drop * epoch for drop in drops]


@pytest.mark.parametrize("name", configs.experiments("msdnet"))
def test_the_commands_of_a_docstring_can_be_typed(name):
    configs.commands_can_be_typed("msdnet", name, main.STUDY)


def test_a_key_that_no_network_has_is_refused():
    config = loaded("digits.py")
    config["msdnet"]["blok"] = 3
    with pytest.raises(UserError, match=r"config key of msdnet 'blok'; did you mean 'blocks'"):
        network(config)


def test_another_loss_is_refused():
    config = config_lib.resolve(config_lib.load(str(FOLDER / "digits.py")))
    spec.from_config(config)
    for change in ({"loss": "mean_squared_error"}, {"loss_kwargs": {"label_smoothing": 0.1}}):
        with pytest.raises(UserError, match=r"leave loss=cross_entropy and loss_kwargs=\{\}"):
            spec.from_config({**config, **change})


def test_data_without_images_are_refused():
    config = config_lib.resolve(config_lib.load(str(FOLDER / "digits.py")))
    dataset = data_lib.load({"name": "mnist1d", "source": "mnist1d", "validation_examples": 300})
    with pytest.raises(UserError, match=r"classify images \[H, W, C\]: mnist1d has none"):
        main.STUDY.prepare(spec.from_config(config), config, dataset)
