"""Bars and lines of progress show names as they are, on any standard error."""

import pytest

from groundwork.runs import progress
from groundwork.runs.progress import Reporter
from tests import screens

NAME = "networks/[bold]a[/y]"


@pytest.fixture
def reported(monkeypatch, tmp_path):
    """A short run on a standard error of some kind; what it shows, and its log."""

    def report(encoding="utf-8", terminal=False, kind="xterm"):
        screen = screens.Screen(encoding, terminal)
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr(progress, "LINE_SECONDS", -1)
        with Reporter(tmp_path / "run.log", 2, 0) as reporter:
            reporter.begin(NAME, 0, 10)
            reporter.update(5, 10, {"error [m]": 0.5})
            reporter.say("warning: runs/\udcff\n± [/b]")
            if reporter._bars:
                reporter._bars.refresh()
            reporter.end("accuracy ±")
        return screen.text, (tmp_path / "run.log").read_text("utf-8")

    return report


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_a_terminal_shows_bars_unless_it_is_dumb(reported, kind):
    shown, log = reported(terminal=True, kind=kind)
    assert ("━" in shown) == ("\x1b[2K" in shown) == (kind == "xterm")
    assert NAME in shown
    assert "error [m] 0.5000" in shown
    assert "warning: runs/\\udcff\\n± [/b]\n" in log


def test_elsewhere_every_line_is_one_that_the_encoding_has(reported):
    shown, log = reported("ascii")
    assert "warning: runs/\\udcff\\n+- [/b]\n" in shown
    assert f"{NAME}  step 5/10  error [m] 0.5000" in shown
    assert "accuracy ±" in log
    assert "\x1b" not in shown


def test_colour_that_is_forced_into_a_file_brings_no_bars(reported, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "━" not in reported()[0]


def test_a_standard_error_that_is_closed_leaves_the_log(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Reporter(tmp_path / "run.log", 1, 0) as reporter:
        reporter.say("said")
    assert (tmp_path / "run.log").read_text().endswith(" said\n")
