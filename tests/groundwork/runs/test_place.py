"""Folders in which no run can be are refused before anything is trained; the others serve."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from groundwork.errors import UserError
from groundwork.runs import checkpoint, run

SERVE = [
    "new\nline",
    "-dash",
    "a b",
    "s3:/x",
    "x:y",
    "#~%41{x}$HOME",
    "ü\t[",
    "gs:x",
    "a*",
    "b/what?/c",
]
REFUSED = {
    "back\\slash": "where checkpoints cannot be",
    "[bold red]": "where checkpoints cannot be",
    "gs:/b": "gs: at the end",
    "ags:": "gs: at the end",
    os.fsdecode(b"\xff\xfe"): "bytes that are not UTF-8",
}


@pytest.mark.parametrize("name", SERVE)
def test_odd_names_serve(name, tmp_path):
    with run.locked(tmp_path / name):
        checkpoint.save(tmp_path / name / "final", {"w": np.ones(2)}, {})
        np.testing.assert_array_equal(checkpoint.restore(tmp_path / name / "final")[0]["w"], [1, 1])


@pytest.mark.parametrize(("name", "said"), REFUSED.items(), ids=range(len(REFUSED)))
def test_names_that_checkpoints_cannot_have_are_refused(name, said, tmp_path):
    with pytest.raises(UserError, match=said), run.locked(tmp_path / name):
        pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=said):
        checkpoint.restore(tmp_path / name / "final")


def test_paths_that_are_too_long_are_refused(tmp_path):
    with pytest.raises(UserError, match="over 3500 bytes"), run.locked(tmp_path / ("a/" * 1800)):
        pass
    with (
        pytest.raises(UserError, match=r"cannot be made .*too long"),
        run.locked(tmp_path / ("a" * 300)),
    ):
        pass


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, said in {
        "file": "file is a file, not a folder: give another --workdir",
        "file/sub/x": "file is a file, not a folder: give another --workdir",
        "dangling": "dangling is a link to nowhere, which does not exist: give another --workdir",
    }.items():
        said = re.escape(f"{tmp_path}/{said}")
        with pytest.raises(UserError, match=f"^{said}$"), run.locked(tmp_path / name):
            pass


def test_a_link_to_a_folder_serves(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with run.locked(tmp_path / "link"):
        pass
    assert Path(tmp_path / "link").is_symlink()
