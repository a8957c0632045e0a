"""Tickets of a Transformer that learns a text: whole runs, tiny, in this process."""

import numpy as np
import pytest

from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.runs import metrics
from lottery import main, results, tickets
from tests import in_process
from tests.conftest import ROOT
from tests.lottery import small

ARGS = [
    "--config=configs/lottery/text_smoke.py",
    "--config.levels=1",
    "--config.replicates=2",
    "--config.train.steps=12",
    "--config.train.batch_size=4",
    "--config.eval_every=6",
    "--config.rewind.step=3",
    "--config.model.kwargs={'layers': 1, 'heads': 2, 'features': 8}",
    "--config.data.kwargs={'length': 8, 'validation': 0.25, 'test': 0.25}",
    "--config.checkpoint.poll_steps=2",
]
ONE = ("--config.mesh.replicate=1", "--config.mesh.data=1")
UNITS = [(0, "ticket"), (1, "ticket"), (1, "random_reinit"), (1, "random_mask")]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return f"--config.data.path={path}"


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        in_process.train(main.STUDY, [*ARGS, *ONE, text, f"--workdir={folder}"])
    return folder


def test_a_run_stopped_twice_goes_on_bit_for_bit(whole, text, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = [*ARGS, *ONE, text, f"--workdir={tmp_path / 'run'}"]
    for stop, place in ((3, "levels/00/ticket"), (9, "levels/01/")):
        looks = iter(range(1000))
        with monkeypatch.context() as patch:
            patch.setattr(
                Interruption, "reached", lambda self, at=looks, last=stop: next(at) == last
            )
            with pytest.raises(Interrupted, match=rf"saved at {place}"):
                in_process.train(main.STUDY, arguments)
    in_process.train(main.STUDY, arguments)
    small.assert_same_run(tmp_path / "run", whole, UNITS)


def test_a_mesh_of_two_by_two_finds_the_same(whole, text, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = ["--config.mesh.replicate=2", "--config.mesh.data=2", text]
    flags += ["--config.branches.random_reinit=()", "--config.branches.random_mask=()"]
    in_process.train(main.STUDY, [*ARGS, *flags, f"--workdir={tmp_path / 'run'}"])
    ours, theirs = (
        {
            (row["level"], row["branch"], row["replicate"], row["split"], row["step"]): row
            for row in metrics.read(folder / "metrics.jsonl")
            if "split" in row
        }
        for folder in (tmp_path / "run", whole)
    )
    assert {key[:2] for key in ours} >= {(0, "ticket"), (1, "ticket")}
    for key, row in ours.items():
        assert row["bits_per_character"] == pytest.approx(
            theirs[key]["bits_per_character"], rel=2e-3
        )


def test_bits_rule_the_run_and_masks_are_global(whole):
    run = results.read(whole)
    assert (run.metric.name, run.metric.higher_is_better) == ("bits_per_character", False)
    found = tickets.load(whole, 1, "ticket").mask
    assert all(path.endswith("kernel") for path in found)
    kept = sum(int(leaf.sum()) for leaf in found.values()) / 2
    size = sum(leaf[0].size for leaf in found.values())
    assert kept == size - round(0.5 * size)
    shares = {path: leaf.mean() for path, leaf in found.items()}
    assert np.ptp(list(shares.values())) > 0.05
