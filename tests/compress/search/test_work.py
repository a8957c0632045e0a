"""The command, end to end, on a tiny network: units, files, continuing, failures."""

import csv
import json
import shutil

import numpy as np
import pytest

import compress
from compress.search import candidate, choosing, costs, history, results
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.runs.run import Run
from tests import browser, shared_runs
from tests.compress.search import small
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return shared_runs.finished(tmp_path_factory, "search", small.run)


def metadata(folder, name):
    return Run(folder).unit(name).result()[1]


def without(folder, target, *patterns):
    """A copy of a run, as if it had been killed before it began these units."""
    shutil.copytree(folder, target)
    for pattern in patterns:
        for unit in (target / "checkpoints").glob(pattern):
            shutil.rmtree(unit)
    return target


def test_the_chosen_network_keeps_the_budget_and_is_what_its_file_holds(finished, chromium):
    folder, printed = finished
    run = results.read(folder)
    assert len(run.candidates) == 6
    assert max(run.chosen.bytes) <= 800
    for r in range(2):
        path = folder / f"files/chosen/{r}.cna"
        assert path.stat().st_size == run.chosen.bytes[r]
        _, variables = compress.load(path)
        saved = Run(folder).unit("chosen/0006").result()[0]["variables"]
        for layer in ("fc1", "fc2", "output"):
            kernel = np.asarray(variables["params"][layer]["kernel"])
            assert np.array_equal(kernel, saved["params"][layer]["kernel"][r])
    assert "chosen: candidate" in printed
    browser.check(chromium, folder / "report.html")


def test_candidates_are_what_their_choices_say_and_cost_what_their_files_do(finished):
    folder, _ = finished
    run, fewer = results.read(folder), False
    for one in run.candidates:
        assert not one.failed
        tree = Run(folder).unit(one.name).result()[0]
        for layer in ("fc1", "fc2", "output"):
            mask = tree["mask"][f"{layer}/kernel"]
            density = one.choice[layer].density if layer in one.choice else 1
            assert (mask.sum((1, 2)) == max(1, round(density * mask[0].size))).all()
            kernel = tree["variables"]["params"][layer]["kernel"]
            assert not kernel[~mask].any()
        files = [folder / f"files/{one.name}/{r}.cna" for r in range(2)]
        assert one.last.costs["bytes"] == [path.stat().st_size for path in files]
        for layer, setting in one.choice.items():
            if setting.bits:
                kernels = [compress.load(path)[1]["params"][layer]["kernel"] for path in files]
                assert max(len(np.unique(kernel)) for kernel in kernels) <= 2**setting.bits
                # the rate takes weights from the file, not from what other candidates continue
                kept = [(kernel != 0).sum() for kernel in kernels]
                assert kept <= [*tree["mask"][f"{layer}/kernel"].sum((1, 2))]
                fewer |= sum(kept) < tree["mask"][f"{layer}/kernel"].sum()
    assert fewer


def test_candidates_continue_each_other_and_are_judged_on_validation_alone(finished):
    folder, _ = finished
    run = results.read(folder)
    assert {one.origin for one in run.candidates} == {"analytic", "uniform", "local", "random"}
    for number, one in enumerate(run.candidates):
        before = run.candidates[: number // 2 * 2]  # of the rounds before
        assert history.parent(before, one.choice)[0] == one.parent
    splits = {row["split"] for row in metrics.read(Run(folder).metrics) if "cand" in row["unit"]}
    assert splits == {"train", "validation"}


def test_the_front_lists_accuracy_and_every_cost(finished):
    folder, _ = finished
    with open(folder / "front.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    run = results.read(folder)
    assert list(rows[0]) == [
        "network", "accuracy", "bytes", "multiply_adds", "parameters", "memory_bytes"
    ]  # fmt: skip
    assert [row["network"] for row in rows] == [one.name for one in run.front()]
    for row, one in zip(rows, run.front(), strict=True):
        assert float(row["accuracy"]) == pytest.approx(one.accuracy, abs=1e-6)
        assert float(row["bytes"]) == pytest.approx(np.mean(one.last.costs["bytes"]))


def test_a_killed_search_goes_on_bit_for_bit(finished, tmp_path):
    folder, _ = finished
    killed = without(folder, tmp_path / "run", "candidates/000[345]", "chosen")
    small.train(killed)
    for name in ("candidates/0003", "candidates/0004", "candidates/0005", "chosen/0006"):
        (old, was), (new, now) = (Run(one).unit(name).result() for one in (folder, killed))
        assert_same_tree(new, old)
        times = ("seconds", "load_seconds", "milliseconds")
        assert {k: v for k, v in now.items() if k not in times} == {
            k: v for k, v in was.items() if k not in times
        }


def test_the_choice_makes_the_same_network_again(finished, tmp_path):
    folder, _ = finished
    again = without(folder, tmp_path / "run", "knowledge", "candidates", "chosen")
    config = json.loads((again / "config.json").read_text())
    config["config"]["evaluations"] = 0
    config["config"]["search"]["choice"] = str(folder / "choice.json")
    (again / "config.json").write_text(json.dumps(config))
    small.train(again, f"--config.search.choice={folder}/choice.json", "--config.evaluations=0")
    count = len(json.loads((folder / "choice.json").read_text())["lineage"])
    for r in range(2):
        new, old = (one / f"files/chosen/{r}.cna" for one in (again, folder))
        assert new.read_bytes() == old.read_bytes()
    assert results.read(again).candidate == count - 1


def test_without_training_biases_make_up_for_rounded_weights(finished, tmp_path, monkeypatch):
    folder, _ = finished
    source = (f"--config.source.path={folder}", "--config.source.unit=networks/original")
    less = ("--config.search.steps=0", "--config.fine_tune.steps=0", "--config.space.densities=()")
    once = ("--config.search.rungs=(1,)", "--config.evaluations=3", "--config.quantize.rate=0.0")
    small.train(tmp_path / "run", *source, *less, *once)
    original = Run(folder).unit("networks/original").result()[0]["variables"]["params"]
    run = results.read(tmp_path / "run")
    rounded = [one for one in run.candidates if one.choice["fc2"].bits == 2]
    for one in rounded:
        for r in range(2):
            path = tmp_path / f"run/files/{one.name}/{r}.cna"
            layer = compress.load(path)[1]["params"]["fc2"]
            assert len(np.unique(layer["kernel"])) == 3  # and zero, for pruned weights
            moved = np.abs(np.asarray(layer["bias"]) - original["fc2"]["bias"][r]).max()
            assert moved > 1e-3
    assert rounded
    assert run.chosen.bytes == run.candidates[run.candidate].last.bytes
    splits = {row["split"] for row in metrics.read(Run(tmp_path / "run").metrics)}
    assert "train" not in splits


@pytest.mark.parametrize(("control", "origin"), [("random", "random"), ("sampler", "nsga2")])
def test_a_control_knows_no_layers(finished, tmp_path, control, origin):
    if control == "sampler":
        pytest.importorskip("optuna")
    folder, _ = finished
    source = (f"--config.source.path={folder}", "--config.source.unit=networks/original")
    said = (f"--config.search.control={control}", "--config.search.sampler=nsga2")
    small.train(
        tmp_path / "run", *source, *said, "--config.evaluations=2", "--config.budget.bytes=5000"
    )
    run = results.read(tmp_path / "run")
    assert [one.origin for one in run.candidates] == [origin] * 2
    assert all(one.judged for one in run.candidates)
    assert "knowledge" not in Run(tmp_path / "run").units()


def test_a_failed_evaluation_is_reported_and_the_search_goes_on(finished, tmp_path, monkeypatch):
    folder, _ = finished
    broken = without(folder, tmp_path / "run", "candidates/000[1-5]", "chosen")

    def fails(*_):
        raise ValueError("no such luck")

    monkeypatch.setattr(candidate, "tuned", fails)
    monkeypatch.setattr(choosing, "make", lambda *_: None)
    small.train(broken, "--config.evaluations=3")
    run = results.read(broken)
    assert [one.failed for one in run.candidates] == ["", *["ValueError: no such luck"] * 2]
    assert run.front() == [run.candidates[0]]


def test_once_the_seconds_are_over_the_run_ends_in_order(finished, tmp_path, monkeypatch):
    folder, _ = finished
    late = without(folder, tmp_path / "run", "candidates/000[2-5]", "chosen")
    monkeypatch.setattr(choosing, "make", lambda *_: None)
    small.train(late, "--config.search.seconds=1e-3")
    run = results.read(late)
    assert [bool(one.judged) for one in run.candidates] == [True, True, *[False] * 4]
    assert {one.failed for one in run.candidates[2:]} == {"search.seconds=0.001 are over"}


def test_files_that_are_lost_are_made_again(finished, tmp_path):
    folder, _ = finished
    copy = without(folder, tmp_path / "run")
    (copy / "files/candidates/0001/1.cna").unlink()
    (copy / "files/chosen/0.cna").write_bytes(b"no archive")
    lost = small.main.STUDY.lost(Run(copy))
    assert lost.keys() == {"candidates/0001", "chosen/0006"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.budget.bytes=20", r"budget: .*bytes.*20"),
        ("--config.space.densities=() --config.space.bits=()", "space: there is nothing to choose"),
        (
            "--config.budget.milliseconds=1 --config.budget.engine=tensorrt",
            "tensorrt.*onnxruntime",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(finished, tmp_path, override, said):
    folder, _ = finished
    target = tmp_path / "run"
    if "bytes" in override:  # the original and what is known of it are there
        target = without(folder, target, "candidates", "chosen")
        config = json.loads((target / "config.json").read_text())
        config["config"]["budget"]["bytes"] = 20
        (target / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        small.train(target, *override.split())


def test_costs_are_those_of_the_files(finished):
    folder, _ = finished
    run = results.read(folder)
    for one in run.candidates:
        assert set(one.last.costs) == set(costs.COSTS) - {"milliseconds"}
        counts = []
        for r in range(2):
            layers = compress.load(folder / f"files/{one.name}/{r}.cna")[1]["params"].values()
            counts.append(sum((x["kernel"] != 0).sum() + x["bias"].size for x in layers))
        assert one.last.costs["parameters"] == counts
