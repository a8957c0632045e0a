"""What oneDNN does to a process: threads, forks, builds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from groundwork.architectures.cpu import build, library
from groundwork.architectures.cpu.convolution import available
from tests.conftest import ROOT

needs_onednn = pytest.mark.skipif(not available(), reason="oneDNN is not built, or is off")
CONVOLVE = """
import jax, jax.numpy as jnp, numpy as np
from groundwork.architectures.cpu.convolution import conv_general_dilated
from groundwork.architectures.cpu import build, library
layout = ("NHWC", "HWIO", "NHWC")
x, w = np.ones((8, 16, 16, 16), "float32"), np.ones((3, 3, 16, 16), "float32")
def total(w):
    return conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=layout).sum()
def convolve():
    return float(jax.grad(total)(w).sum())
"""
SUM = 8 * 14 * 14 * 16 * 3 * 3 * 16


def lines_of(script, **environment):
    """What a script prints, in a process of its own that ends within a minute."""
    command = [sys.executable, "-c", CONVOLVE + script]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    ended = subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


# threads

CPUS = len(os.sched_getaffinity(0))


@needs_onednn
@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"OMP_DYNAMIC": "true"}, CPUS),
        ({"OMP_MAX_ACTIVE_LEVELS": "0"}, CPUS),
        ({"OMP_THREAD_LIMIT": "1"}, 1),
        ({"OMP_NUM_THREADS": "1000"}, CPUS),
    ],
    ids=str,
)
def test_the_team_is_the_one_that_openmp_forms(environment, threads):
    about, total = lines_of("print(library.about()); print(convolve())", **environment)
    assert about.endswith(f" on {threads} threads")
    assert float(total) == SUM


@needs_onednn
def test_what_computes_says_version_instructions_and_threads():
    about, total = lines_of(
        "print(library.about()); print(convolve())", ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1"
    )
    assert re.fullmatch(r"oneDNN 3\.\d+\.\d+ \(avx2\) on 1 threads", about)
    assert float(total) == SUM


# forks

FORK = """
import os, signal, sys
def in_child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            print(function(), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


@needs_onednn
def test_a_process_may_fork_before_oneDNN_is_used_and_is_told_afterwards():
    descriptor = "(2, 32, 2, 8, 8, 4, 3, 3, 6, 8, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1)"
    before, own, *after = lines_of(
        FORK
        + f"""
assert library.load()
in_child(library.about)
print(library.about())
in_child(library.about)
in_child(lambda: library.implementation({descriptor}))
"""
    )
    assert before == own
    assert len(after) == 2
    assert all("forked after oneDNN was used: start processes by spawn" in said for said in after)


# builds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the test's own to build in."""
    monkeypatch.setattr(library, "path", lambda: tmp_path / "convolution-ffi-0.0.so")
    return tmp_path


@pytest.fixture
def root(tmp_path):
    """What looks like oneDNN 3."""
    headers = tmp_path / "onednn" / "include/oneapi/dnnl"
    headers.mkdir(parents=True)
    (headers / "dnnl_version.h").write_text("#define DNNL_VERSION_MAJOR 3\n")
    (tmp_path / "onednn/lib").mkdir()
    (tmp_path / "onednn/lib" / build.LIBRARY).write_text("oneDNN")
    return tmp_path / "onednn"


@pytest.fixture
def compiler(tmp_path):
    """It writes its arguments to what it is told to make."""
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\n')
    script.chmod(0o755)
    return str(script)


def test_a_failed_build_leaves_the_one_before(folder, root, compiler):
    built = build.build([root], compiler)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert json.loads(built.with_suffix(".json").read_text())["library"] == library.digest(built)
    with pytest.raises(subprocess.CalledProcessError):
        build.build([root], "false")
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert before == after


def test_a_compiler_may_have_arguments_and_oneDNN_a_relative_path(
    folder, root, compiler, monkeypatch
):
    monkeypatch.chdir(folder)
    arguments = build.build([Path("onednn")], f"{compiler} --extra").read_text().split()
    assert arguments[0] == "--extra"
    assert f"-Wl,-rpath,{root}/lib" in arguments


@pytest.mark.parametrize(("set_to", "used"), [("", "g++"), (None, "g++"), ("clang++", "clang++")])
def test_the_compiler_is_that_of_the_environment(set_to, used, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build"])
    monkeypatch.delenv("CXX", raising=False)
    if set_to is not None:
        monkeypatch.setenv("CXX", set_to)
    asked = []
    monkeypatch.setattr(build, "build", lambda roots, compiler: asked.append(compiler))
    monkeypatch.setattr(library, "load", lambda: True)
    build.main()
    assert asked == [used]
