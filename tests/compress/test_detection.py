"""A detector through the pipeline: its mean average precision in tables, its boxes in pictures."""

import numpy as np

from compress import main, results, tables
from groundwork import detection
from groundwork.data import dataset
from groundwork.report import judged
from tests import in_process, packages

THEIRS = """
import flax.linen as nn


class Detector(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (8, 8), strides=8, padding="VALID", name="conv")(x))
        return nn.Conv(3 * (5 + self.classes), (1, 1), name="output")(x).reshape(
            len(x), -1, 5 + self.classes
        )
"""
ARGS = [
    "--config=configs/compress/squeezedet_digits.py",
    "--config.data.image_size=32",
    "--config.data.kwargs={'examples': 24, 'test_examples': 20, 'objects': 2}",
    "--config.data.validation_examples=0",
    "--config.loss_kwargs={'image': (32, 32)}",
    "--config.model.name=theirs.nets:Detector",
    "--config.model.width=1.0",
    "--config.train.steps=2",
    "--config.train.batch_size=4",
    "--config.fine_tune.steps=1",
    "--config.fine_tune.batch_size=4",
    "--config.optimizer.warmup_steps=0",
    "--config.eval_every=2",
    "--config.stages=('quantize',)",
    "--config.quantize.fine_tune=false",
    "--config.mesh.replicate=1",
    "--config.mesh.data=2",
]


def test_networks_are_judged_by_the_precision_of_what_they_answer(tmp_path, monkeypatch):
    packages.write(tmp_path, monkeypatch, nets=THEIRS)
    in_process.train(main.STUDY, [*ARGS, f"--workdir={tmp_path / 'run'}"])
    run = results.read(tmp_path / "run")
    assert run.metric.name == "object_accuracy"
    assert len(run.networks) == 2
    test = dataset.load(run.config).test
    for network in run.networks:
        (value,) = network.judged["mean_average_precision"]["test"]
        assert 0 <= value <= 1
        np.testing.assert_array_equal(network.shown["inputs"], test.inputs[:6])
        np.testing.assert_array_equal(network.shown["targets"], test.labels[:6])
        found = detection.Detections(**network.shown["answers"])
        assert found.boxes.shape == (6, 4 * 4 * 3, 4)
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.max() > 0
    header, rows = tables.networks(run)
    shown = [row[header.index("mean average precision")] for row in rows]
    assert shown == [f"{n.judged['mean_average_precision']['test'][0]:.4f}" for n in run.networks]
    kept = {network.name: network.shown for network in run.networks}
    path, caption = judged.pictures(run, kept, tmp_path / "answers.png")
    assert path.stat().st_size > 10_000
    assert "score" in caption
