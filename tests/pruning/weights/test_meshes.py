"""Masks that change on meshes: the same on all devices, in one process or in two."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pruning.weights import results
from tests.conftest import CACHE, ROOT
from tests.lottery.small import assert_same_tree
from tests.pruning.weights import small

pytestmark = pytest.mark.slow
RIGL = {"method": "rigl", "scope": "erdos_renyi", "every": 2}
SHORT = ["--config.train.steps=10", "--config.eval_every=10", "--config.train.batch_size=40"]
MESH = ["--config.mesh.replicate=2", "--config.mesh.data=2"]

CHILD = """
import dataclasses, sys
from groundwork import study
from pruning import main
study.conduct(dataclasses.replace(main.STUDY, show=lambda folders: None), sys.argv[1:])
"""


@pytest.fixture(scope="module")
def on_four(tmp_path_factory):
    """A run on 2 × 2 simulated devices of this process."""
    folder = tmp_path_factory.mktemp("meshes") / "run"
    small.train(folder, *SHORT, *MESH, **RIGL)
    return results.load(folder, "sparse/0.1")


def test_a_mesh_of_two_by_two_moves_the_weights_that_one_device_moves(on_four, tmp_path):
    small.train(tmp_path / "run", *SHORT, **RIGL)
    for path, leaf in results.load(tmp_path / "run", "sparse/0.1")[0].items():
        assert on_four[0][path].sum() == leaf.sum()
        same = np.mean(on_four[0][path] == leaf)
        assert same > 0.99  # sums of halves round otherwise, and near ties may turn


def test_two_processes_have_the_masks_of_one(on_four, tmp_path):
    arguments = [*small.argv(tmp_path / "run", **RIGL), *SHORT, *MESH]
    launcher = [sys.executable, "launch/local.py", "--processes=2", "--devices=2", "--", "python"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*launcher, "-c", CHILD, *arguments],
        cwd=ROOT,
        env={**environment, "NPROC": "16"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for mine, theirs in zip(results.load(tmp_path / "run", "sparse/0.1"), on_four, strict=True):
        assert_same_tree(mine, theirs)
