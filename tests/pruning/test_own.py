"""Networks, data and a loss of a user's own, streams and processes, pruned by the command."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from groundwork.runs.run import result_of
from pruning import results
from tests import packages
from tests.conftest import CACHE, ROOT
from tests.pruning import tiny

pytestmark = pytest.mark.slow


def test_a_regression_loses_units_and_is_judged_by_its_error(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    tiny.leave_untrained(monkeypatch, "original", "pruned/0.5")
    printed = tiny.run(
        tmp_path / "run",
        "--config.model.name=theirs.nets:Regression",
        "--config.model.width=1.0",
        "--config.data.source=theirs.data:regression",
        "--config.data.validation_examples=0",
        "--config.loss=mean_squared_error",
        "--config.train.steps=40",
        "--config.train.batch_size=20",
        "--config.fine_tune.batch_size=20",
        "--config.prune.criterion=taylor",
        tiny.COMPENSATED,
    )
    run = results.read(tmp_path / "run")
    assert run.metric.name == "mean_squared_error"
    assert run.pruned[0].kept == {"hidden": 6}
    assert run.pruned[0].network.macs == run.original.macs / 2 == (5 * 12 + 12 * 2) / 2
    assert "accuracy" not in printed
    assert (tmp_path / "run/figures/mean_squared_error.png").is_file()
    page = (tmp_path / "run/report.html").read_text().replace("keep_accuracy", "")  # a key
    assert "ccuracy" not in page


THEIRS = """
import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx


class Nnx(nnx.Module):
    def __init__(self, num_classes, *, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), strides=4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(4, num_classes, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.conv(x)))).mean((1, 2)))


def mlp(classes):
    def build(key):
        return eqx.nn.MLP(64, classes, 6, 1, key=key)

    static = eqx.partition(build(jax.random.key(0)), eqx.is_array)[1]

    def init(key, x):
        arrays = eqx.filter(build(key), eqx.is_array)
        return {f"layer{n}": {"w": l.weight, "b": l.bias} for n, l in enumerate(arrays.layers)}

    def apply(params, x):
        def put(model):
            return [leaf for layer in model.layers for leaf in (layer.weight, layer.bias)]

        leaves = [params[f"layer{n}"][name] for n in range(2) for name in ("w", "b")]
        model = eqx.tree_at(put, static, leaves, is_leaf=lambda leaf: leaf is None)
        return jax.vmap(model)(x.reshape(len(x), -1))

    return init, apply
"""


@pytest.mark.parametrize(
    ("network", "criterion", "left"), [("Nnx", "scale", 2), ("mlp", "activation", 3)]
)
def test_networks_of_other_libraries_lose_units_and_learn_on(
    network, criterion, left, tmp_path, monkeypatch
):
    packages.write(tmp_path, monkeypatch, nets=THEIRS)
    tiny.leave_untrained(monkeypatch, "pruned/0.5")
    name = (f"--config.model.name=theirs.nets:{network}", "--config.model.width=1.0")
    how = (f"--config.prune.criterion={criterion}", "--config.replicates=1")
    how += ("--config.fine_tune_optimizer.learning_rate=0.01",)
    tiny.train(tmp_path / "run", *name, *how)
    (pruned,) = results.read(tmp_path / "run").pruned
    assert list(pruned.kept.values()) == [left]
    assert np.mean(pruned.network.test) > np.mean(pruned.network.before)


CHILD = """
import dataclasses, sys
import pytest
from groundwork import study
from pruning import main
from tests.pruning import tiny
tiny.leave_untrained(pytest.MonkeyPatch(), "pruned/0.5")
study.conduct(dataclasses.replace(main.STUDY, show=lambda folders: None), sys.argv[1:])
"""


def test_two_processes_keep_the_units_of_one(tmp_path, monkeypatch):
    """Each has a replicate, which keeps units of its own."""
    mesh = ("--config.mesh.replicate=2", "--config.mesh.data=1")
    launcher = [sys.executable, "launch/local.py", "--processes=2", "--devices=1"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE), "NPROC": "16"}
    done = subprocess.run(
        [*launcher, "--", "python", "-c", CHILD, *tiny.argv(tmp_path / "two", *mesh)],
        cwd=ROOT,
        env={**environment, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tiny.leave_untrained(monkeypatch, "pruned/0.5")
    tiny.train(tmp_path / "one")
    (two,), (one,) = (results.read(tmp_path / name).pruned for name in ("two", "one"))
    keeps = (result_of(tmp_path / name, "plans/0.5/1") for name in ("two", "one"))
    jax.tree.map(np.testing.assert_array_equal, *keeps)
    assert two.network.macs == one.network.macs
    np.testing.assert_allclose(two.network.test, one.network.test, atol=0.01)
    assert np.mean(two.network.test) > np.mean(two.network.before)


def test_a_stream_is_pruned_by_what_looks_at_no_example(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch, "pruned/0.5")
    stream = (
        "--config.data.name=tiny_digits",
        "--config.data.source=tfds",
        f"--config.data.dir={ROOT / 'tests/fixtures/tfds'}",
        "--config.data.stream=true",
        "--config.data.validation_examples=20",
        "--config.train.batch_size=16",
        "--config.fine_tune.batch_size=16",
        "--config.train.steps=4",
        "--config.fine_tune.steps=2",
    )
    tiny.train(tmp_path / "run", *stream)
    assert results.read(tmp_path / "run").pruned[0].kept["fc1"] == 15
