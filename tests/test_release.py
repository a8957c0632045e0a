"""`.ci/release`: what it refuses, and the release that it makes in a clone."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def clone(tmp_path):
    """A repository of its own with the working tree's files, at version 0.1.0."""
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(lambda name: name and not name.startswith("tests/"), listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    version = re.search(r'^version = "(.*)"$', (folder / "pyproject.toml").read_text(), re.M)[1]
    for name, before, now in (
        ("pyproject.toml", f'version = "{version}"', 'version = "0.1.0"'),
        ("CITATION.cff", f"version: {version}", "version: 0.1.0"),
    ):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(before, now))
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n- A change.\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def release(folder, *arguments, check="true"):
    who = {
        f"GIT_{role}_{of}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for of in ("NAME", "EMAIL")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **who, "PATH": path, "CHECK": check, "PIP_NO_BUILD_ISOLATION": "false"}
    return subprocess.run(
        [folder / ".ci/release", *arguments], cwd=folder, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which version"),
        (["two"], "two is no version"),
        (["0.0.9"], "0.0.9 is older than 0.1.0"),
    ],
)
def test_what_is_no_next_version_is_refused(clone, arguments, said):
    done = release(clone, *arguments)
    assert done.returncode == 1
    assert said in done.stderr


def test_nothing_is_released_from_a_tree_with_changes_or_that_fails_its_checks(clone):
    assert release(clone, "0.2.0", check="false").returncode == 1
    (clone / "README.md").write_text("changed")
    assert "commit or remove" in release(clone, "0.2.0").stderr
    assert git(clone, "tag") == ""


def test_a_release_has_its_version_everywhere_a_date_a_tag_and_a_wheel(clone):
    done = release(clone, "0.2.0")
    assert done.returncode == 0, done.stderr
    assert git(clone, "tag") == "v0.2.0\n"
    assert git(clone, "status", "--porcelain", "--untracked-files=no") == ""
    changes = (clone / "CHANGELOG.md").read_text()
    assert "## Unreleased\n\n## 0.2.0 (20" in changes
    assert "\nversion: 0.2.0\n" in (clone / "CITATION.cff").read_text()
    (wheel,) = (clone / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (metadata,) = [name for name in opened.namelist() if name.endswith("/METADATA")]
        assert "\nVersion: 0.2.0\n" in opened.read(metadata).decode()
    assert "nothing under Unreleased" in release(clone, "0.3.0").stderr
