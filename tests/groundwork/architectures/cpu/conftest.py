import pytest

from groundwork.architectures.cpu import library
from tests.groundwork.architectures.cpu.onednn import decide_again, needs_onednn


@pytest.fixture(params=[pytest.param("onednn", marks=needs_onednn), "xla"])
def by(request, monkeypatch):
    """Every test that takes it runs with oneDNN and without."""
    monkeypatch.setenv(library.SWITCH, request.param)
    decide_again()
    yield request.param
    monkeypatch.undo()
    decide_again()
