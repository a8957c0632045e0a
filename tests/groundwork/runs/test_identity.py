"""The commit that a run records is that of this code, wherever the code lies."""

import json
import subprocess

import pytest

from groundwork.runs import identity


def git(folder, *arguments):
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A copy of the code in a folder of a repository with one commit, but not of the commit."""
    file = tmp_path / "packages/groundwork/runs/identity.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=a user's")
    monkeypatch.setattr(identity, "__file__", str(file))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return file


def installed(packages, **direct_url):
    folder = packages / "compression_and_dynamic_networks-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {identity.DISTRIBUTION}\nVersion: 9.9\n")
    if direct_url:
        (folder / "direct_url.json").write_text(json.dumps(direct_url))


def test_of_a_clone_it_is_the_commit_with_a_plus_for_changes(code, tmp_path):
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=ours")
    head = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert identity.commit() == head
    code.write_text("# changed")
    assert identity.commit() == f"{head}+"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({}, "version 9.9"),
        ({"url": "file:///x", "dir_info": {}}, "version 9.9"),
        ({"vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}}, "0123456789ab"),
    ],
    ids=["wheel", "folder", "git"],
)
def test_of_installed_code_it_is_the_installed_commit_or_the_version(code, origin, expected):
    installed(code.parents[2], **origin)
    assert identity.commit() == expected


def test_of_code_that_is_neither_it_is_unknown(code, tmp_path, monkeypatch):
    assert identity.commit() == "unknown"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    installed(tmp_path / "elsewhere")
    assert identity.commit() == "unknown"
