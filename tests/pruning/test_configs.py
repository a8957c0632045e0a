import pytest

from pruning import main
from tests import configs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", configs.files("pruning"))
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    checked = configs.passes("pruning", name, main.STUDY)
    assert checked.prune.points


@pytest.mark.parametrize("name", configs.experiments("pruning"))
def test_the_commands_of_a_docstring_can_be_typed(name):
    configs.commands_can_be_typed("pruning", name, main.STUDY)
