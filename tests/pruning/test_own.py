"""Networks, data and a loss of a user's own, streams and meshes, pruned by the command."""

import numpy as np
import pytest

from pruning import results
from tests import packages
from tests.conftest import ROOT
from tests.pruning import tiny

pytestmark = pytest.mark.slow


def test_a_regression_loses_units_and_is_judged_by_its_error(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
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


def test_a_mesh_of_four_devices_keeps_the_units_of_one(finished, tmp_path):
    mesh = ("--config.mesh.replicate=2", "--config.mesh.data=2")
    tiny.train(tmp_path / "run", tiny.COMPENSATED, tiny.RANDOM, *mesh)
    ours, theirs = (results.read(path) for path in (tmp_path / "run", finished[0]))
    assert ours.pruned[0].kept == theirs.pruned[0].kept
    assert ours.pruned[0].network.macs == theirs.pruned[0].network.macs
    np.testing.assert_allclose(ours.original.test, theirs.original.test, atol=0.02)
    np.testing.assert_allclose(
        ours.pruned[0].network.test, theirs.pruned[0].network.test, atol=0.05
    )


def test_a_stream_is_pruned_by_what_looks_at_no_example(tmp_path):
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
