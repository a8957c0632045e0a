"""Paths mean what users type."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from compress.archive import files, reading
from compress.stages import teachers
from groundwork import config as config_lib
from groundwork import paths
from groundwork.data import sources
from groundwork.errors import UserError
from groundwork.report import page
from groundwork.runs import results, trained
from tests.conftest import ROOT

HERE = Path.cwd()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~", "/home/me"),
        ("~/x", "/home/me/x"),
        (Path("~/x"), "/home/me/x"),
        ("~root/x", os.path.expanduser("~root/x")),
        ("runs/~", "runs/~"),
        ("runs/a~b/", "runs/a~b"),
        ("./~", str(HERE / "~")),
        ("./~/x", str(HERE / "~/x")),
        ("-x", "-x"),
    ],
)
def test_a_home_folder_is_put_in_where_shells_do_not(typed, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(paths.given(typed)) == meant
    assert paths.given(paths.given(typed)) == paths.given(typed)


def test_a_user_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"no user 'nobody-x'; \./~nobody-x is a folder of that"):
        paths.given("~nobody-x/runs")


def test_what_no_path_can_have_is_refused():
    with pytest.raises(UserError, match=r"'a\\x00b' is no path"):
        paths.given("a\0b")


def test_the_part_of_a_path_that_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(".")
    for free in ("new/one", "link/new", "."):
        assert paths.obstacle(tmp_path / free) == ""
    assert paths.obstacle(tmp_path / "file/a/b") == f"{tmp_path}/file is a file, not a folder"
    said = f"{tmp_path}/dangling is a link to nowhere, which does not exist"
    assert paths.obstacle(tmp_path / "dangling/x") == said


def test_networks_files_data_and_reports_are_found_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    trained.save("~/network.npz", {"params": {"w": np.ones(2)}})
    assert (tmp_path / "network.npz").is_file()
    assert trained.load("~/network.npz", "")["params"]["w"].shape == (2,)
    files.save("~/0.cna", lambda variables: variables, {"w": np.ones(2)})
    assert reading.read("~/0.cna") == (tmp_path / "0.cna").read_bytes()
    shown = []
    page.draw_again(shown.extend, "", ["~/run"])
    assert shown == [tmp_path / "run"]
    for source in ("idx", "folder", "npz", "huggingface"):
        with pytest.raises(UserError, match=f"{tmp_path}/none|pip install datasets"):
            sources.read(source, "mnist", "~/none", {}, 0)
    with pytest.raises(UserError, match=f"{tmp_path}/none holds no readable run"):
        trained.load("~/none", "original")
    with pytest.raises(UserError, match=f"^{tmp_path}/none holds no readable run"):
        results.open_results("~/none", "lottery")
    with pytest.raises(UserError, match=f"^{tmp_path}/none holds no readable run"):
        teachers._load(SimpleNamespace(unit="u"), "~/none", None)


def test_workdir_and_config_are_such_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_bytes((ROOT / "configs/lottery/digits.py").read_bytes())
    _, workdir = config_lib.parse(["--config=~/mine.py", "--workdir=~/x"], "")
    assert workdir == tmp_path / "x"
    _, workdir = config_lib.parse(["--config=~/mine.py"], "")
    assert workdir == Path("runs/mine")
