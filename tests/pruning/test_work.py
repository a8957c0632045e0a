"""The command, end to end, on a tiny network: units, plans, controls, continuing."""

import itertools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.runs.run import Run
from pruning import results, spec, structured
from tests.lottery.small import assert_same_tree
from tests.pruning import tiny

pytestmark = pytest.mark.slow


def parts(folder):
    """The config, the graph and the normalised data of a run."""
    run = results.read(folder)
    dataset = data_lib.load(run.config)
    model = architectures.build(run.config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    return dataset, structured.groups(model, shapes, dataset.example)


def test_a_run_is_finished_when_all_is_done_that_it_was_asked_for(finished):
    folder, printed = finished
    asked = spec.from_config(results.read(folder).config)
    assert sorted([*spec.unit_names(asked), "plans/0.5/1"]) == Run(folder).units()
    assert "random units" in printed
    assert (folder / "report.html").read_text().count("<img") == 3


def test_before_fine_tuning_it_is_the_original_without_units_compensated(finished):
    folder, _ = finished
    run, (dataset, graph) = results.read(folder), parts(folder)
    original = results.load(folder, "original")
    keep, _ = Run(folder).unit("plans/0.5/1").result()
    seen, _ = data_lib.first_examples(dataset, 500)
    inputs = data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs))
    for r in range(2):
        own = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), original)
        kept = {name: np.asarray(units[r], bool) for name, units in keep.items()}
        scores = structured.scores(graph, own, "l2")
        expected = structured.choose(graph, scores, 0.5)
        for name in kept:
            np.testing.assert_array_equal(kept[name], expected[name])
        solved, _ = structured.least_squares(graph, own, kept, seen)
        right = np.asarray(graph.model.apply(solved, inputs)).argmax(-1) == dataset.test.labels
        assert right.mean() == pytest.approx(run.pruned[0].network.before[r], abs=1e-6)


def test_random_units_are_as_many_and_compensated(finished):
    folder, _ = finished
    (pruned,) = results.read(folder).pruned
    control = pruned.branches["random_units"]
    assert (control.macs, control.parameters) == (pruned.network.macs, pruned.network.parameters)
    assert control.before != pruned.network.before
    assert np.mean(control.before) > 0.3  # without compensation it is near chance


def test_the_same_command_shows_it_again_and_more_ratios_extend_it(finished, tmp_path):
    before = (finished[0] / "metrics.jsonl").read_bytes()
    assert tiny.run(finished[0], tiny.COMPENSATED, tiny.RANDOM) == finished[1]
    assert (finished[0] / "metrics.jsonl").read_bytes() == before
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    tiny.train(folder, tiny.COMPENSATED, tiny.RANDOM, ratio=(0.5, 0.8))
    assert [pruned.label for pruned in results.read(folder).pruned] == ["0.5", "0.8"]
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 6)
    with pytest.raises(Interrupted, match=r"saved at pruned/0\.5, step 20"):
        tiny.train(tmp_path / "run", tiny.COMPENSATED, tiny.RANDOM)
    monkeypatch.undo()
    tiny.train(tmp_path / "run", tiny.COMPENSATED, tiny.RANDOM)
    for unit in ("original", "pruned/0.5", "random_units/0.5"):
        assert_same_tree(*(results.load(path, unit) for path in (tmp_path / "run", finished[0])))
    continued, whole = (results.read(path).pruned[0] for path in (tmp_path / "run", finished[0]))
    assert continued.network.before == whole.network.before


SHORT = ("--config.train.steps=2", "--config.fine_tune.steps=1", "--config.replicates=1")


def test_iterations_take_more_and_more_and_end_at_the_ratio(tmp_path):
    folder = tmp_path / "run"
    tiny.train(folder, *SHORT, "--config.prune.iterations=2", ratio=0.75)
    run = Run(folder)
    first, last = (run.unit(f"plans/0.75/{n}").result()[0] for n in (1, 2))
    assert [int(np.sum(keep["fc1"])) for keep in (first, last)] == [15, 8]  # of 30
    for name in first:
        assert not np.any(np.asarray(last[name], bool) & ~np.asarray(first[name], bool))
    assert "iterations/0.75/1" in run.units()


def test_a_target_is_met_and_patterns_may_differ(tmp_path):
    target = "--config.prune.target.multiply_adds=0.5"
    tiny.train(tmp_path / "target", *SHORT, target, "--config.prune.scope=global")
    run = results.read(tmp_path / "target")
    assert run.pruned[0].label == "target"
    assert run.pruned[0].network.macs <= 0.5 * run.original.macs < 1.2 * run.pruned[0].network.macs
    tiny.train(tmp_path / "patterns", *SHORT, ratio={"fc1": 0.5, "fc2": 0.0})
    assert results.read(tmp_path / "patterns").pruned[0].kept == {"fc1": 15, "fc2": 10}


def test_as_much_goes_as_the_validation_accuracy_allows(tmp_path):
    kept = "--config.prune.keep_accuracy=0.05", "--config.data.validation_examples=300"
    merged = ("--config.prune.compensate=merge", "--config.replicates=1")
    tiny.train(tmp_path / "run", *kept, *merged, "--config.fine_tune.steps=1")
    tree = Run(tmp_path / "run").unit("pruned/target").result()[1]
    original = Run(tmp_path / "run").unit("original").result()[1]
    assert tree["before"]["validation"][0] >= original["validation"][0] - 0.05
    assert 0 < results.read(tmp_path / "run").pruned[0].ratio < 1


def test_a_penalty_makes_units_small_in_training(finished, tmp_path):
    strong = ("--config.sparsity.penalty=units", "--config.sparsity.weight=0.1")
    tiny.train(tmp_path / "run", *strong, "--config.fine_tune.steps=1")
    norms = [
        np.linalg.norm(results.load(path, "original")["params"]["fc1"]["kernel"])
        for path in (tmp_path / "run", finished[0])
    ]
    assert norms[0] < 0.9 * norms[1]
