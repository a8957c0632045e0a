"""A small experiment of every kind of unit, for tests: seconds, the real code path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundwork.runs import metrics
from lottery import main, tickets
from tests import in_process

ARGS = [
    "--config=configs/lottery/digits.py",
    "--config.levels=2",
    "--config.replicates=2",
    "--config.train.steps=60",
    "--config.train.batch_size=50",
    "--config.eval_every=10",
    "--config.rewind.step=20",
    "--config.model.width=0.1",
    "--config.branches.small_dense=(2,)",
    "--config.data.validation_examples=297",  # as many as of test: one program counts both
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]
OFTEN = "--config.checkpoint.every_seconds=0"  # for tests of what is saved before a unit's end


def run(workdir: Path, *overrides: str) -> str:
    return in_process.run(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def train(workdir: Path, *overrides: str) -> None:
    in_process.train(main.STUDY, [*ARGS, f"--workdir={workdir}", *overrides])


def rows(workdir: Path) -> list[metrics.Row]:
    """Rows of a run without times."""
    found = metrics.read(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def assert_same_run(one: Path, two: Path, units: Sequence[tuple[int, str]]) -> None:
    """Rows and every array of every unit are equal, bit for bit."""
    assert rows(one) == rows(two)
    for level, branch in units:
        a, b = (tickets.load(folder, level, branch) for folder in (one, two))
        assert_same_tree(a, b)


def assert_same_tree(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_tree(a[key], b[key])
    elif isinstance(a, tuple):
        for x, y in zip(a, b, strict=True):
            assert_same_tree(x, y)
    else:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


UNITS = [
    (0, "ticket"),
    *((level, branch) for level in (1, 2) for branch in ("ticket", "random_mask", "random_reinit")),
    (2, "small_dense"),
]
