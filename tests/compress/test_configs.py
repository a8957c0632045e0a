import pytest

from compress import main, spec
from tests import configs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", configs.files("compress"))
def test_a_config_passes_the_spec_and_its_parts_are_made(name):
    checked = configs.passes("compress", name, main.STUDY)
    assert spec.nodes(checked)[-1].leaf


@pytest.mark.parametrize("name", configs.experiments("compress"))
def test_the_commands_of_a_docstring_can_be_typed(name):
    configs.commands_can_be_typed("compress", name, main.STUDY)
