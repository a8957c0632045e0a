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
        with Reporter(tmp_path / "run.log", {NAME: 10, "b": 10}) as reporter:
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
    with Reporter(tmp_path / "run.log", {"a": 1}) as reporter:
        reporter.say("said")
    assert (tmp_path / "run.log").read_text().endswith(" said\n")


def test_the_time_left_is_that_of_the_steps_that_this_process_has_computed():
    pace = progress.Pace({"done": 500, "a": 100, "none": 0, "b": 100}, ["done"])
    pace.begin("a", 20, 100)  # goes on at step 20
    pace.reach(40, 60.0)  # the first time it waited for the compiler
    assert pace.of_unit(60.0) is None
    assert pace.of_run(60.0) is None
    pace.reach(60, 70.0)  # 20 steps in 10 s
    assert pace.of_unit(70.0) == 20.0
    assert pace.of_run(70.0) == 70.0  # 40 steps of this unit, 100 of the next one
    pace.reach(100, 90.0)
    pace.end()
    pace.begin("b", 0, 100)
    pace.reach(50, 130.0)  # compiles again: 50 steps in 40 s
    assert pace.of_unit(130.0) is None
    assert pace.of_run(130.0) == pytest.approx(70 / 110 * 50)


def test_a_unit_of_unknown_length_leaves_the_run_without_an_estimate():
    pace = progress.Pace({"a": 100, "b": None}, [])
    pace.begin("a", 0, 100)
    pace.reach(10, 1.0)
    pace.reach(20, 2.0)
    assert pace.of_unit(2.0) == 8.0
    assert pace.of_run(2.0) is None


def test_lines_say_the_time_that_is_left(monkeypatch, tmp_path):
    clock = iter([0.0, 0.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr", screens.Screen("utf-8", False))
    with Reporter(tmp_path / "run.log", {"a": 100, "b": 50}) as reporter:
        reporter.begin("a", 0, 100)
        reporter.update(10, 100, {})
        reporter.update(20, 100, {})
    line = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert line.endswith("80 s left, 2 min for the run")  # 80 and 130 steps, one a second


def test_units_on_the_way_to_another_leave_the_run_without_an_estimate():
    pace = progress.Pace({"sparse/0.1": 300}, [])
    pace.begin("iterations/0.1/1", 0, 100)
    pace.reach(10, 1.0)
    pace.reach(20, 2.0)
    assert pace.of_unit(2.0) == 8.0
    assert pace.of_run(2.0) is None  # its steps are among those of the other one
