"""A network, data and a loss of a user's own, decomposed by the command."""

import pytest

from lowrank import results
from tests import packages
from tests.lowrank import small


@pytest.mark.slow
def test_a_regression_is_decomposed_and_judged_by_its_error(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch)
    printed = small.run(
        tmp_path / "run",
        "--config.model.name=theirs.nets:Regression",
        "--config.model.width=1.0",
        "--config.data.source=theirs.data:regression",
        "--config.data.validation_examples=0",
        "--config.loss=mean_squared_error",
        "--config.train.steps=40",
        "--config.train.batch_size=20",
        "--config.fine_tune.batch_size=20",
        methods=("svd_outputs",),
        shares=(0.8,),
        predict=("hidden",),
    )
    run = results.read(tmp_path / "run")
    assert run.metric.name == "mean_squared_error"
    (point,) = run.points
    assert set(point.plan) <= {"hidden", "output"}
    assert point.macs < run.original.macs == 5 * 12 + 12 * 2
    assert "accuracy" not in printed
    assert (tmp_path / "run/figures/mean_squared_error.png").is_file()
    page = (tmp_path / "run/report.html").read_text()
    assert "Values of the mean squared error and errors are the mean" in page
    assert "ccuracy" not in page
