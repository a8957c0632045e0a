import pytest

from deploy import main
from groundwork import config as config_lib
from groundwork.train import optim
from tests import configs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", configs.files("deploy"))
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    config = config_lib.resolve(config_lib.load(f"configs/deploy/{name}"))
    checked = main.STUDY.check(config)
    optim.make(checked.optimizer, checked.train.steps)
    assert checked.chosen
    assert main.STUDY.units(checked) == ["trained", "files/trained", "measures/trained"]


@pytest.mark.parametrize("name", configs.experiments("deploy"))
def test_the_commands_of_a_docstring_can_be_typed(name):
    configs.commands_can_be_typed("deploy", name, main.STUDY)
