"""A small run over stability: its copies, errors, resumption, tables and refusals."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.runs.run import Run, result_of
from lottery import main as lottery_main
from lottery import tickets
from lottery.stability import main, report, results, spec
from lottery.stability import source as source_lib
from tests import browser, in_process, steps

SHARED = [
    "--config.replicates=2",
    "--config.train.steps=30",
    "--config.train.batch_size=50",
    "--config.eval_every=15",
    "--config.model.width=0.05",
    "--config.data.validation_examples=0",
    "--config.mesh.replicate=1",
    "--config.mesh.data=1",
]
SOURCE = [
    "--config=configs/lottery/digits.py",
    *SHARED,
    "--config.levels=1",
    "--config.rewind.step=10",
    "--config.branches.random_reinit=()",
    "--config.branches.random_mask=()",
    "--config.branches.small_dense=()",
]
STABILITY = [
    "--config=configs/lottery/stability_digits.py",
    *SHARED,
    "--config.stability.steps=(0,10)",
    "--config.stability.levels=(1,)",
    "--config.stability.random_mask=True",
    "--config.stability.between=(0,1)",
    "--config.stability.points=4",
    "--config.stability.train_examples=300",
    "--config.stability.match=True",
]
UNITS = [
    "dense/00000010",
    *(
        f"{name}/{network}/{step}{end}"
        for step in ("00000000", "00000010")
        for network in ("dense", "level-01", "random-01")
        for name, end in (("copies", "/1"), ("copies", "/2"), ("paths", ""))
    ),
    "between/00-01",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "tickets"
    in_process.train(lottery_main.STUDY, [*SOURCE, f"--workdir={folder}"])
    return folder


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stability") / "run"
    command = [*STABILITY, f"--config.stability.source={source}", f"--workdir={folder}"]
    folder.with_suffix(".txt").write_text(in_process.run(main.STUDY, command))
    return folder


def copies(folder, network, step):
    return [result_of(folder, f"copies/{network}/{step:08d}/{copy}")["params"] for copy in (1, 2)]


def wrong(params, inputs, labels):
    """The share of wrong answers of LeNet-300-100, by NumPy."""
    x = inputs.reshape(len(inputs), -1)
    for name in ("fc1", "fc2"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
    outputs = x @ params["output"]["kernel"] + params["output"]["bias"]
    return np.mean(outputs.argmax(1) != labels)


def test_a_run_has_its_units_and_errors_are_those_of_a_plain_loop_over_the_path(folder):
    run = Run(folder)
    assert set(run.units()) == set(UNITS)
    config = json.loads((folder / "config.json").read_text())["config"]
    dataset = data_lib.load(config)
    splits = {"test": tuple(dataset.test), "train": [leaf[:300] for leaf in dataset.train]}
    first, second = copies(folder, "level-01", 10)
    errors = result_of(folder, "paths/level-01/00000010")
    for split, (inputs, labels) in splits.items():
        inputs = np.asarray(data_lib.normalize(dataset, inputs))
        expected = np.zeros((4, 2))
        for point in range(4):
            for replicate in range(2):
                params = {
                    layer: {
                        name: first[layer][name][replicate] * (1 - point / 3)
                        + second[layer][name][replicate] * (point / 3)
                        for name in ("kernel", "bias")
                    }
                    for layer in first
                }
                expected[point, replicate] = wrong(params, inputs, labels)
        np.testing.assert_allclose(errors[split], expected, atol=1e-6)
    path = next(p for p in results.read(folder).of("level 1") if p.step == 10)
    by_hand = errors["test"].max(0) - errors["test"][[0, 3]].mean(0)
    np.testing.assert_allclose(path.instability("test"), by_hand)


def test_copies_share_their_start_and_the_source_its_training_but_no_order(folder, source):
    at_ten = result_of(folder, "dense/00000010")
    theirs = result_of(source, "start")[0]
    for name in ("variables", "opt_state"):
        mine, other = (tree[name] for tree in (at_ten, theirs))
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
    for network, step in (("dense", 0), ("level-01", 10), ("random-01", 10)):
        one, two = copies(folder, network, step)
        assert (one["fc1"]["kernel"] != two["fc1"]["kernel"]).any()
    mask = tickets.load(source, 1).mask
    for network in ("level-01", "random-01"):
        for copy in copies(folder, network, 10):
            kept = copy["fc1"]["kernel"] != 0
            assert (kept.sum((1, 2)) <= mask["fc1/kernel"].sum((1, 2))).all()
            if network == "level-01":
                assert not (kept & ~mask["fc1/kernel"]).any()
            else:
                assert (kept & ~mask["fc1/kernel"]).any()


def test_between_levels_the_ends_are_the_sources_tickets(folder, source):
    errors = result_of(folder, "between/00-01")["test"]
    rows = metrics.by_unit(metrics.read(source / "metrics.jsonl"))
    for place, level in ((0, 0), (-1, 1)):
        ends = [r["accuracy"] for r in rows[f"levels/{level:02d}/ticket"] if r.get("at") == "end"]
        np.testing.assert_allclose(errors[place], 1 - np.array(ends), atol=1e-6)


def test_matched_paths_have_the_same_ends(folder):
    errors = result_of(folder, "paths/dense/00000000")
    assert errors.keys() == {"test", "train", "matched_test", "matched_train"}
    for split in ("test", "train"):
        np.testing.assert_allclose(
            errors[split][[0, -1]], errors[f"matched_{split}"][[0, -1]], atol=2e-3
        )


def test_killed_in_a_copy_it_goes_on_bit_for_bit(folder, source, tmp_path, monkeypatch):
    few = [
        *STABILITY[:-6],
        "--config.stability.steps=(0,10)",
        "--config.stability.points=2",
        "--config.checkpoint.poll_steps=5",
        f"--workdir={tmp_path / 'again'}",
    ]
    looks = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "reached", lambda self: next(looks) == 9)
        with pytest.raises(Interrupted, match="copies/dense/00000000/2, step"):
            in_process.train(main.STUDY, few)
    in_process.train(main.STUDY, few)
    for step in (0, 10):
        pairs = zip(
            copies(folder, "dense", step), copies(tmp_path / "again", "dense", step), strict=True
        )
        for one, two in pairs:
            np.testing.assert_array_equal(one["fc2"]["kernel"], two["fc2"]["kernel"])


def test_the_table_has_every_path_within_80_columns(folder, chromium):
    printed = folder.with_suffix(".txt").read_text()
    run = results.read(folder)
    table = report._copies_table(run)
    assert [row[:2] for row in table[1]] == [
        [network, step] for network in ("dense", "level 1", "random 1") for step in ("0", "10")
    ]
    *lines, following = printed.splitlines()
    assert max(map(len, lines)) <= max(80, len(f"report: {folder}/report.html"))
    assert following.startswith(f"next: python -m groundwork.compare {folder} RUN")
    level = next(p for p in run.of("level 1") if p.step == 10).instability("test")
    assert f"{np.mean(level):.3f}±{np.std(level, ddof=1):.3f}" in printed
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    browser.check(chromium, folder / "report.html")
    compared = report.compare([folder])
    assert compared.rows[0][0] == "10"
    (record,) = (
        r
        for r in compared.records
        if (r["network"], r["step"], r["split"]) == ("level 1", 10, "test")
    )
    assert record["instability_mean"] == pytest.approx(np.mean(level))
    assert record["instability_deviation"] == pytest.approx(np.std(level, ddof=1))


def refused(*overrides):
    argv = [*STABILITY[:-6], *(f"--config.{override}" for override in overrides)]
    with pytest.raises(UserError) as caught:
        in_process.train(main.STUDY, argv)
    return str(caught.value)


def linear(classes):
    """A network without units between its inputs and its outputs."""
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(classes)])


def test_what_cannot_be_measured_is_refused_in_one_line(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_source = f"stability.source={source}"
    assert "stability.levels=(1,) are levels of a run" in refused("stability.levels=(1,)")
    assert "must all be less than train.steps=30" in refused("stability.steps=(0,30)")
    assert "must rise, without repeats" in refused("stability.steps=(5,0)")
    assert "between=(1,) must name two" in refused("stability.between=(1,)", of_source)
    assert "level 0 is the dense network" in refused("stability.levels=(0,)", of_source)
    said = refused(of_source, "stability.levels=(1,)", "seed=1")
    assert "was trained with seed=0, not 1: set it so, or name another run" in said
    said = refused(of_source, "stability.levels=(7,)")
    assert said.startswith("stability.source: ")
    assert "has no finished levels/07/ticket" in said
    said = refused(f"stability.source={tmp_path}/none", "stability.levels=(1,)")
    assert said.startswith("stability.source: ")
    linear = "model.name=tests.lottery.stability.test_stability:linear"
    said = refused(linear, "model.width=1.0", "stability.match=True")
    assert said.startswith("stability.match: nothing of this network can be removed")
    assert "more than the 1500 training examples" in refused("stability.train_examples=99999")
    assert not (tmp_path / "runs").exists()


def test_a_source_is_known_by_its_data_and_its_code_and_finds_tickets_of_its_own(
    source, folder, tmp_path
):
    began = json.loads((source / "config.json").read_text())
    section = spec.StabilitySpec(**{**SECTION, "source": str(tmp_path)})
    done = frozenset(Run(folder).units())

    def said(rewritten, own=None):
        (tmp_path / "config.json").write_text(json.dumps({**began, **rewritten}))
        with pytest.raises(UserError, match=r"^stability.source: ") as caught:
            source_lib.check(section, began["config"], {}, began["data"], own or {})
        return str(caught.value)

    assert "trained on other data: give the same" in said({"data": "0" * 64})
    assert "when model.name=lenet_300_100 computed" in said({}, {"model.name": "1" * 64})
    taken = {**began["config"], "ticket": {"source": "runs/x"}}
    assert "trained with ticket.source='runs/x', not ''" in said({"config": taken})
    (tmp_path / "config.json").write_text(json.dumps({**began, "id": "another"}))
    with pytest.raises(UserError, match="another run than when this one began"):
        source_lib.known(section, Run(folder), done - {"between/00-01"})
    assert source_lib.known(section, Run(folder), done) == {}


SECTION = {
    "steps": (0, 10),
    "levels": (1,),
    "random_mask": True,
    "between": (0, 1),
    "points": 4,
    "restore": "weights",
    "train_examples": 0,
    "match": False,
}


def test_units_are_those_that_are_done():
    made = spec.StabilitySpec(**SECTION, source="x")
    assert made.networks == ("dense", "level-01", "random-01")
    assert made.pairs == ((0, 1),)


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(folder):
    assert steps.agree(main.STUDY, folder) == set()
