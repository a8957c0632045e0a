"""The command, run in this process up to where it would train; a finished run."""

import sys
from pathlib import Path

import pytest

from groundwork.entry import run_main
from lottery import main, tickets
from tests import shared_runs
from tests.conftest import ROOT
from tests.lottery import small
from tests.lottery.refusals import DIGITS, TrainingBeganError, check, contents


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """Run the command in this process, from the repository's root, up to where it would train."""

    def begin(*args):
        raise TrainingBeganError

    def call(*args, config=DIGITS):
        overrides = [a if a.startswith("-") else f"--config.{a}" for a in args]
        argv = ["main", config, f"--workdir={tmp_path / 'run'}", *overrides]
        monkeypatch.setattr(sys, "argv", argv)
        run_main(main.main)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(tickets, "find_tickets", begin)
    return call


@pytest.fixture
def refused(typed, capsys, tmp_path):
    """Run the command, which must refuse; give its one line on stderr."""

    def call(*args, **kwargs):
        before = contents(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            typed(*args, **kwargs)
        out, err = capsys.readouterr()
        check(caught.value.code, out, err)
        assert contents(tmp_path) == before
        return err

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A run with every kind of unit, which tests read and do not change; what it printed."""
    return shared_runs.finished(tmp_path_factory, "lottery", small.run)
