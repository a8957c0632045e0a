"""The page of a run that goes on."""

import time

import pytest

from groundwork.report import live
from groundwork.report import page as page_lib


def waited(path, text, seconds=60.0):
    """Waits until a page has a text."""
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < end, path.read_text() if path.exists() else "no page"
        time.sleep(0.1)
    return path.read_text()


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A command whose report writes which units are finished."""
    package = tmp_path / "slowly"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "report.py").write_text(
        "import pathlib, sys\n"
        "from groundwork.report import page\n"
        "from groundwork.runs.run import Run\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "page.write(folder, 'slowly', [('Units', page.bullets(Run(folder).units()))])\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{live.__file__.rpartition('/groundwork/')[0]}")
    monkeypatch.setattr(live, "SECONDS", 0.2)
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_a_page_says_that_it_has_begun_then_what_is_finished(drawn, monkeypatch):
    found = []
    monkeypatch.setattr(live.Run, "units", lambda self: list(found))
    path = drawn / "report.html"
    with live.page("slowly", drawn, True, print):
        said = waited(path, live.BEGUN)
        assert "<meta http-equiv='refresh' content='0.2'>" in said
        found.append("levels/00/ticket")
        said = waited(path, "<h2>Units</h2>")
        assert "<meta http-equiv='refresh' content='0.2'>" in said
    page_lib.write(drawn, "slowly", [])  # as the command does at its end
    assert "http-equiv" not in path.read_text()


def test_without_the_key_there_is_no_page_and_no_thread(drawn):
    with live.page("slowly", drawn, False, print):
        time.sleep(0.3)
    assert not (drawn / "report.html").exists()


def test_the_end_does_not_wait_for_a_drawing(drawn, monkeypatch):
    (drawn.parent / "slowly/report.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(live.Run, "units", lambda self: ["a"])
    begun = time.monotonic()
    with live.page("slowly", drawn, True, print):
        time.sleep(0.5)
    assert time.monotonic() - begun < 20


def test_the_log_says_why_nothing_is_drawn(drawn, monkeypatch):
    (drawn.parent / "slowly/report.py").write_text(
        "import sys; sys.exit('error: none is finished')"
    )
    monkeypatch.setattr(live.Run, "units", lambda self: ["a"])
    said = []
    with live.page("slowly", drawn, True, said.append):
        end = time.monotonic() + 60
        while not said and time.monotonic() < end:
            time.sleep(0.1)
    assert said == ["report.html is not drawn: error: none is finished"]
