"""The command, end to end, on a tiny network."""

import itertools
import json
import types

import jax
import numpy as np
import pytest
from scipy.spatial import distance

from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.runs.run import Run
from groundwork.train.losses import CROSS_ENTROPY
from groundwork.train.step import Batch
from lottery.early_bird import report, results, search, spec, work
from pruning import structured
from tests.lottery.early_bird import tiny
from tests.lottery.small import assert_same_tree

pytestmark = pytest.mark.slow


def tree_of(folder, unit):
    return Run(folder).unit(unit).result()[0]


def ranked(variables, replicate):
    """The half of all channels with the largest scales, by numpy."""
    scales = [np.abs(variables["params"][f"bn{n}"]["scale"][replicate]) for n in (1, 2)]
    keep = np.zeros(20, bool)
    keep[np.argsort(-np.concatenate(scales), kind="stable")[:10]] = True
    return keep


def test_the_units_of_a_run_are_those_that_it_is_to_have(finished):
    asked = spec.from_config(results.read(finished).config)
    assert sorted(spec.unit_names(asked)) == Run(finished).units()


def test_the_mask_of_each_epoch_is_numpys_ranking_of_the_scales(finished):
    for epoch in range(1, 5):
        tree = tree_of(finished, spec.epoch_name(epoch))
        for r in range(2):
            keep = np.concatenate([tree["mask"][f"fc{n}"][r] for n in (1, 2)])
            np.testing.assert_array_equal(keep, ranked(tree["variables"], r))


def test_the_loss_has_the_scales_of_batchnorm_times_the_penalty():
    model = tiny.Net(3)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 5)).astype(np.float32)
    variables = model.init(jax.random.key(0), inputs)
    for name in ("bn1", "bn2"):
        scale = variables["params"][name]["scale"]
        variables["params"][name]["scale"] = rng.normal(size=scale.shape).astype(np.float32)
    batch = Batch(inputs, np.zeros(4, np.int32), np.ones(4, bool))
    asked = types.SimpleNamespace(bits=32, penalty=0.0)
    searched = types.SimpleNamespace(
        spec=types.SimpleNamespace(early_bird=asked),
        graph=structured.groups(model, variables, inputs),
        experiment=types.SimpleNamespace(model=model, loss=CROSS_ENTROPY),
    )

    def mean():
        one = lambda _: search.loss(searched)(jax.random.key(1), variables, batch)[0]  # noqa: E731
        return jax.vmap(one, axis_name="data")(np.zeros(1))[0]  # BatchNorm averages over devices

    plain = mean()
    asked.penalty = 0.5
    penalized = mean()
    scales = sum(np.abs(variables["params"][name]["scale"]).sum() for name in ("bn1", "bn2"))
    np.testing.assert_allclose(penalized - plain, 0.5 * scales, rtol=1e-5)


def test_the_distances_are_scipys_and_the_detector_fires_on_them(finished):
    run = results.read(finished)
    trees = [tree_of(finished, spec.epoch_name(epoch)) for epoch in range(1, 5)]
    for r in range(2):
        rows = [ranked(tree["variables"], r) for tree in trees]
        expected = distance.squareform(distance.pdist(rows, "hamming"))
        np.testing.assert_allclose(run.distances[r], expected, rtol=1e-12)
    assert run.fired == [3, 3]  # two distances below 0.9, those of the epochs 2 and 3
    assert run.epoch == run.networks["ticket"].epoch == 3


def test_a_replicates_epoch_is_that_of_the_later_mask():
    apart = np.full((6, 6), 0.5)
    for one, two in ((2, 3), (3, 4), (4, 5)):  # epochs 3 to 6
        apart[one, two] = apart[two, one] = 0.0
    assert search.epoch_of(apart, 0.1, 2) == 5
    assert search.epoch_of(apart, 0.1, 3) == 6
    assert search.epoch_of(apart, 0.1, 4) is None


def forward(variables, inputs, keep):
    """The logits of the tiny network by numpy, with zeros in place of the channels that went."""
    x = inputs.reshape(len(inputs), -1)
    for n in (1, 2):
        norm, moments = variables["params"][f"bn{n}"], variables["batch_stats"][f"bn{n}"]
        x = x @ variables["params"][f"fc{n}"]["kernel"]
        x = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0) * keep[f"fc{n}"]
    return x @ variables["params"]["output"]["kernel"] + variables["params"]["output"]["bias"]


def test_the_narrow_ticket_is_the_masked_network_of_the_epoch(finished):
    run, keep = results.read(finished), tree_of(finished, "drawn/ticket")
    dataset = data_lib.load(run.config)
    inputs = np.asarray(data_lib.normalize(dataset, np.asarray(dataset.test.inputs)))
    at = tree_of(finished, "epochs/003")["variables"]
    counts = [keep[name].sum(1) for name in ("fc1", "fc2")]
    assert all(count[0] == count[1] for count in counts)
    for r in range(2):
        own = {
            collection: {n: {k: v[r] for k, v in leaves.items()} for n, leaves in layers.items()}
            for collection, layers in at.items()
        }
        logits = forward(own, inputs, {name: keep[name][r] for name in keep})
        right = np.mean(logits.argmax(-1) == dataset.test.labels)
        assert right == pytest.approx(run.networks["ticket"].before[r], abs=1e-6)
    one, two = (int(count[0]) for count in counts)
    assert results.load(finished, "ticket")["params"]["fc2"]["kernel"].shape == (2, one, two)
    assert run.networks["ticket"].macs == 64 * one + one * two + two * 10


def test_controls_have_the_tickets_shape_and_other_weights_or_channels(finished):
    params = {n: results.load(finished, n)["params"] for n in ("ticket", "reinit", "random")}
    shapes = {n: p["fc2"]["kernel"].shape for n, p in params.items()}
    assert len(set(shapes.values())) == 1
    run = results.read(finished)
    assert len({tuple(n.before) for n in run.networks.values()}) == 4
    assert {n: network.epoch for n, network in run.networks.items()} == {
        "ticket": 3, "reinit": 3, "random": 3, "late": 4
    }  # fmt: skip


def test_the_computation_is_that_of_the_epochs_before_and_of_its_own_training(finished):
    run = results.read(finished)
    dense = 64 * 12 + 12 * 8 + 8 * 10
    assert run.dense.training_macs == 3 * 50 * 20 * dense
    for name, steps in (("ticket", 15), ("random", 15), ("late", 20)):
        network = run.networks[name]
        assert network.training_macs == 3 * 50 * (steps * dense + 4 * network.macs)
        spent = [row for row in _operations(finished) if row["unit"] in _units(name, steps // 5)]
        seconds = sum((row["step"] - row["first_step"]) * row["step_seconds"] for row in spent)
        assert network.seconds == pytest.approx(seconds)


def _units(name, epochs):
    return {name, *(spec.epoch_name(epoch + 1) for epoch in range(epochs))}


def _operations(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row.get("kind") == "operations"]


def test_asked_to_stop_between_epochs_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(work, "find", search.train)  # the dense training alone
    with monkeypatch.context() as stopping:
        stopping.setattr(Interruption, "reached", lambda self: next(looks) == 4)
        with pytest.raises(Interrupted, match=r"saved at epochs/003, step 10"):
            tiny.train(tmp_path / "run")
    tiny.train(tmp_path / "run")
    for epoch in range(1, 5):
        unit = spec.epoch_name(epoch)
        trees = [tree_of(folder, unit) for folder in (tmp_path / "run", finished)]
        for part in ("variables", "mask"):
            assert_same_tree(*(tree[part] for tree in trees))


def test_masks_of_weights_in_8_bits_whose_detector_does_not_fire(tmp_path):
    """The ticket is not made, and said; the one of the end is, and its weights stay zero."""
    how = ("masks=weights", "bits=8", "threshold=1e-9", "ratio=0.8")
    flags = [f"--config.early_bird.{one}" for one in how]
    tiny.train(tmp_path / "run", *flags, *tiny.ALONE[:2])
    run = results.read(tmp_path / "run")
    assert (run.fired, run.epoch, list(run.networks)) == ([None, None], None, ["late"])
    why = "ticket is not made: the detector did not fire in 4 epochs"
    assert report._said(run) == [why]
    dense, late = (results.load(tmp_path / "run", unit)["params"] for unit in ("dense", "late"))
    names = ("fc1", "fc2", "output")
    kernels = [
        np.concatenate([p[n]["kernel"].reshape(2, -1) for n in names], 1) for p in (dense, late)
    ]
    kept = 944 - round(0.8 * 944)
    for before, after in zip(*kernels, strict=True):
        largest = np.sort(np.argsort(-np.abs(before), kind="stable")[:kept])
        np.testing.assert_array_equal(np.flatnonzero(after), largest)
    assert run.networks["late"].macs == run.dense.macs == 944
