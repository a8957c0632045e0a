"""What oneDNN does to a process: threads, forks, builds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from architectures.convolution import available
from architectures.cpu import library

ROOT = Path(__file__).parents[2]
needs_onednn = pytest.mark.skipif(not available(), reason="oneDNN is not built, or is off")
CONVOLVE = """
import jax, jax.numpy as jnp, numpy as np
from architectures.convolution import conv_general_dilated
from architectures.cpu import library
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
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1000"}, CPUS),
    ],
    ids=str,
)
def test_the_team_is_the_one_that_openmp_forms(environment, threads):
    about, total = lines_of("print(library.about()); print(convolve())", **environment)
    assert about.endswith(f" on {threads} threads")
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


# what is recorded


@needs_onednn
def test_what_computes_says_version_instructions_and_threads():
    (about,) = lines_of("print(library.about())", ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")
    assert re.fullmatch(r"oneDNN 3\.\d+\.\d+ \(avx2\) on 1 threads", about)
