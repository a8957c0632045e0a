"""Where oneDNN cannot be used: one line that says why, and XLA."""

import json
import platform
import shutil

import pytest

from groundwork.architectures.cpu import build, library
from groundwork.architectures.cpu.convolution import available
from groundwork.errors import UserError
from tests.groundwork.architectures.cpu.onednn import (
    assert_near,
    decide_again,
    needs_onednn,
    normal,
    ours,
    theirs,
)
from tests.groundwork.architectures.small import quickly


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A built library in a folder of the test's own; nothing is decided yet."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    file = tmp_path / "convolution-ffi-0.0.so"
    file.write_bytes(b"\x7fELF and then nothing")
    record = {"source": library.source_digest(), "library": library.digest(file)}
    record["onednn"] = {"path": str(file), "digest": library.digest(file)}
    file.with_suffix(".json").write_text(json.dumps(record))
    monkeypatch.setattr(library, "path", lambda: file)
    monkeypatch.setattr(library.sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(library, "CPUINFO", tmp_path / "cpuinfo")
    library.CPUINFO.write_text("flags\t\t: sse4_2 avx avx2 fma\n")
    decide_again()
    yield file
    monkeypatch.undo()
    decide_again()


def assert_works_by_xla(times=1):
    x, w = normal(2, 6, 6, 4), normal(3, 3, 4, 6)
    for _ in range(times):
        assert_near(quickly(lambda x, w: ours(x, w))(x, w), theirs(x, w))
        assert not available()


def remove(file):
    file.unlink()


def change(file):
    file.write_bytes(file.read_bytes() + b"!")


def forget(file):
    file.with_suffix(".json").write_text("{")


def empty(file):
    file.with_suffix(".json").write_text("[]")


def edit(file):
    record = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**record, "source": "another"}))


def age(file):
    library.CPUINFO.write_text("flags\t\t: sse4_2 avx\n")


def keep(file):
    pass


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove, "No such file"),
        (change, "has changed since oneDNN was built.*make cpu"),
        (forget, "is damaged.*make cpu"),
        (empty, "is damaged.*make cpu"),
        (edit, r"convolution\.cc or what it includes has changed.*make cpu"),
        (age, "no AVX2"),
        (keep, "by XLA, which is slow: .*(ELF|file too short|invalid)"),
    ],
)
def test_what_cannot_be_loaded_is_one_warning_and_xla(damage, said, built):
    damage(built)
    with pytest.warns(UserWarning, match=said) as warned:
        assert_works_by_xla(times=2)
    assert len(warned) == 1


@needs_onednn
def test_a_library_without_its_openmp_is_one_warning_and_xla(built, monkeypatch):
    def refuse(name):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(library.ctypes, "CDLL", refuse)
    with pytest.warns(UserWarning, match=r"libgomp\.so\.1: cannot open"):
        assert_works_by_xla()


@pytest.mark.parametrize("library_is_there", [True, False])
def test_what_is_not_built_is_one_line_that_says_how(library_is_there, built, capsys):
    built.with_suffix(".json").unlink()
    if not library_is_there:
        shutil.move(built, built.with_name("other.so"))
    assert_works_by_xla()
    assert_works_by_xla()
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "make cpu" in line] == said
    assert len(said) == 1
    assert "not built" in said[0]


def test_a_build_for_another_jaxlib_says_so(built, capsys, monkeypatch):
    monkeypatch.setattr(library, "path", lambda: built.with_name("convolution-ffi-9.9.so"))
    assert_works_by_xla()
    assert "built for another jaxlib: make cpu" in capsys.readouterr().err


@pytest.mark.parametrize("switched", [True, False])
def test_where_it_cannot_be_had_or_is_switched_off_nothing_is_said(
    switched, built, capsys, monkeypatch
):
    if switched:
        monkeypatch.setenv(library.SWITCH, "xla")
    else:
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert_works_by_xla()
    assert not capsys.readouterr().err


def test_an_empty_switch_is_as_none(built, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "")
    with pytest.warns(UserWarning, match="by XLA, which is slow"):
        assert_works_by_xla()


def test_a_misspelt_switch_is_refused(built, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "onedn")
    with pytest.raises(UserError, match="did you mean 'onednn'"):
        available()


def test_a_folder_that_cannot_be_written_to_is_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "onednn", lambda roots: (tmp_path, tmp_path))
    monkeypatch.setattr(library, "path", lambda: tmp_path / "build/convolution-ffi-0.0.so")
    monkeypatch.setattr(build.os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(SystemExit, match="cannot be written to: install into a venv of your own"):
        build.build([], "no-compiler")
