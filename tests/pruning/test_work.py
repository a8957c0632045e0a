"""The command, end to end, on a tiny network: units, plans, controls, continuing."""

import itertools
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.runs import metrics
from groundwork.runs.run import Run
from groundwork.train import latency
from groundwork.train.losses import CROSS_ENTROPY
from pruning import branches, fit, main, plans, results, spec, structured, work
from tests import steps
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
    for branch in ("random units", "scratch-E", "scratch-B"):
        assert branch in printed
    assert (folder / "report.html").read_text().count("</figure>") == 3


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


def test_the_original_may_come_from_another_run(finished, tmp_path):
    folder, _ = finished
    flags = (f"--config.source.path={folder}", "--config.source.unit=original")
    tiny.train(tmp_path / "run", *flags, "--config.fine_tune.steps=1")
    ours, theirs = (results.read(path) for path in (tmp_path / "run", folder))
    assert_same_tree(*(results.load(run, "original") for run in (tmp_path / "run", folder)))
    assert ours.original.test == ours.original.before == theirs.original.test
    assert (ours.original.steps, theirs.original.steps) == (0, 60)
    rows = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert {row["unit"] for row in rows} == {"fine_tuned", "pruned/0.5"}


def test_random_units_are_as_many_and_compensated(finished):
    folder, _ = finished
    (pruned,) = results.read(folder).pruned
    control = pruned.branches["random_units"]
    assert (control.macs, control.parameters) == (pruned.network.macs, pruned.network.parameters)
    assert control.before != pruned.network.before
    assert np.mean(control.before) > 0.3  # without compensation it is near chance


def test_scratch_is_new_and_trained_as_long_or_at_the_same_cost(finished):
    folder, _ = finished
    run = results.read(folder)
    (pruned,) = run.pruned
    one, other = (pruned.branches[f"scratch_{letter}"] for letter in "eb")
    assert one.macs == other.macs == pruned.network.macs
    assert (one.steps, other.steps) == (60, round(60 * run.original.macs / one.macs))
    assert one.before == other.before  # they begin alike
    assert one.milliseconds == pruned.network.milliseconds  # the same program, timed once
    assert np.mean(one.test) > np.mean(one.before)


def test_the_same_command_shows_it_again_and_more_ratios_extend_it(finished, tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    before = (finished[0] / "metrics.jsonl").read_bytes()
    assert tiny.run(finished[0], tiny.COMPENSATED, *tiny.BRANCHES) == finished[1]
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    tiny.train(folder, tiny.COMPENSATED, *tiny.BRANCHES, ratio=(0.5, 0.8))
    assert [pruned.label for pruned in results.read(folder).pruned] == ["0.5", "0.8"]
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert (finished[0] / "metrics.jsonl").read_bytes() == before


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 6)
    with pytest.raises(Interrupted, match=r"saved at pruned/0\.5, step 20"):
        tiny.train(tmp_path / "run", tiny.COMPENSATED)
    monkeypatch.undo()
    tiny.train(tmp_path / "run", tiny.COMPENSATED)
    for unit in ("original", "pruned/0.5"):
        assert_same_tree(*(results.load(path, unit) for path in (tmp_path / "run", finished[0])))
    continued, whole = (results.read(path).pruned[0] for path in (tmp_path / "run", finished[0]))
    assert continued.network.before == whole.network.before


def test_a_network_shares_the_programs_of_an_equal_one_alone(monkeypatch, tmp_path):
    """Those of another shape are compiled and timed anew."""
    met, programs = [], []

    def fitted(experiment, name, network, variables, phase):
        met.append(fit.shared_with_equals(experiment, network, variables))
        programs.append(fit.compile_programs(experiment, met[-1], network, phase))
        experiment.context.run.unit(name).finish({"variables": variables}, {})

    for module in (work, branches):
        monkeypatch.setattr(module, "fitted", fitted)
    tiny.train(tmp_path / "run", *tiny.BRANCHES, ratio=(0.5, 0.8))
    numbers = [[id(one) for one in met].index(id(each)) for each in met]
    assert numbers == [0, 0, 2, 2, 2, 2, 6, 6, 6, 6]
    assert programs[2] is programs[5] is not programs[6]


def test_without_ratios_the_original_is_trained_alone(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    printed = tiny.run(tmp_path / "run", ratio=())
    assert Run(tmp_path / "run").units() == ["original"]
    assert "shares that are gone" not in printed
    assert "measured times" not in printed
    tiny.train(tmp_path / "run", ratio=(0.5,))
    assert "pruned/0.5" in Run(tmp_path / "run").units()


# which units: nothing needs to be trained


def test_iterations_take_more_and_more_and_end_at_the_ratio(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    folder = tmp_path / "run"
    tiny.train(folder, "--config.prune.iterations=2", ratio=0.75)
    run = Run(folder)
    first, last = (run.unit(f"plans/0.75/{n}").result()[0] for n in (1, 2))
    assert [int(np.sum(keep["fc1"][0])) for keep in (first, last)] == [15, 8]  # of 30
    for name in first:
        assert not np.any(np.asarray(last[name], bool) & ~np.asarray(first[name], bool))
    assert "iterations/0.75/1" in run.units()


@pytest.mark.parametrize("target", ["multiply_adds=0.5", "parameters=0.5", "parameters=900.0"])
def test_a_target_is_met_and_little_more_goes(target, tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    name, _, most = target.partition("=")
    tiny.train(tmp_path / "run", f"--config.prune.target.{target}", "--config.prune.scope=global")
    run = results.read(tmp_path / "run")
    key = {"multiply_adds": "macs"}.get(name, name)
    whole, left = (getattr(network, key) for network in (run.original, run.pruned[0].network))
    allowed = float(most) * (whole if float(most) < 1 else 1)
    assert run.pruned[0].label == "target"
    assert left <= allowed < 1.2 * left


def test_a_target_in_milliseconds_is_measured_on_one_example(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)

    def measured(original, network, variables, example):
        units = variables["params"]["fc1"]["bias"].size + variables["params"]["fc2"]["bias"].size
        return {"1": [4.0, units / 10], "128": [100.0, 100.0]}  # 40 units at first

    monkeypatch.setattr(latency, "milliseconds", measured)
    tiny.train(tmp_path / "run", "--config.prune.target.milliseconds=1.5")
    (pruned,) = results.read(tmp_path / "run").pruned
    assert sum(pruned.kept.values()) == 15


def test_patterns_and_ignored_variables_tell_groups_apart(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    tiny.train(tmp_path / "patterns", ratio={"fc1": 0.5, "fc2": 0.0})
    assert results.read(tmp_path / "patterns").pruned[0].kept == {"fc1": 15, "fc2": 10}
    tiny.train(tmp_path / "ignored", "--config.prune.ignored=('params/fc1/*',)")
    assert results.read(tmp_path / "ignored").pruned[0].kept == {"fc2": 5}
    kernel = results.load(tmp_path / "ignored", "pruned/0.5")["params"]["fc1"]["kernel"]
    assert kernel.shape == (2, 64, 30)


@pytest.mark.parametrize("scope", ["isomorphic", "global"])
def test_groups_are_ranked_together_and_rounded(scope, tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    how = {"scope": scope, "round_to": 2}
    flags = [f"--config.prune.{key}={value}" for key, value in how.items()]
    tiny.train(tmp_path / "run", *flags, "--config.replicates=1", "--config.prune.criterion=l1")
    _, graph = parts(tmp_path / "run")
    original = results.load(tmp_path / "run", "original")
    scores = structured.scores(graph, jax.tree.map(lambda leaf: leaf[0], original), "l1")
    expected = structured.choose(graph, scores, 0.5, **how)
    keep, _ = Run(tmp_path / "run").unit("plans/0.5/1").result()
    for name, kept in expected.items():
        np.testing.assert_array_equal(np.asarray(keep[name], bool)[0], kept)
    counts = [int(kept.sum()) for kept in expected.values()]
    assert counts != [16, 6]  # of each group by itself
    assert [count % 2 for count in counts] == [0, 0]


@pytest.mark.parametrize("criterion", [c for c in structured.CRITERIA if c != "scale"])
def test_every_criterion_can_be_named(criterion, finished):
    """`scale` needs a normalisation: see the network of NNX."""
    dataset, graph = parts(finished[0])
    config = {**results.read(finished[0]).config}
    config["prune"] = {**config["prune"], "criterion": criterion}
    experiment = fit.Experiment(
        context=SimpleNamespace(dataset=dataset, seed=0),
        spec=spec.from_config(config),
        model=graph.model,
        graph=graph,
        loss=CROSS_ENTROPY,
    )
    original = jax.tree.map(lambda leaf: leaf[0], results.load(finished[0], "original"))
    scores = plans._scores(experiment, jax.tree.map(jnp.asarray, original), {}, 0)
    assert {name: values.shape for name, values in scores.items()} == {"fc1": (30,), "fc2": (10,)}
    assert all(np.isfinite(values).all() and values.min() >= 0 for values in scores.values())


# what needs training


@pytest.fixture(scope="module")
def penalised(tmp_path_factory):
    """A run under a penalty, of which as much goes as the validation accuracy allows."""
    folder = tmp_path_factory.mktemp("penalised") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.leave_untrained(monkeypatch, "original")
        strong = ("--config.sparsity.penalty=units", "--config.sparsity.weight=0.1")
        kept = ("--config.prune.keep_accuracy=0.05", "--config.data.validation_examples=297")
        tiny.train(folder, *strong, *kept, "--config.prune.compensate=merge")
    return folder


def test_as_much_goes_as_the_validation_accuracy_allows(penalised):
    dataset, graph = parts(penalised)
    metadata = Run(penalised).unit("original").result()[1]
    pruned = results.load(penalised, "pruned/target")
    keep, about = Run(penalised).unit("plans/target/1").result()
    inputs = data_lib.normalize(dataset, jnp.asarray(dataset.validation.inputs))
    shares = []
    for r in range(2):
        kept = {name: np.asarray(units[r], bool) for name, units in keep.items()}
        network = structured.Narrowed(graph=graph, keep=kept)
        logits = network.apply(jax.tree.map(lambda leaf, r=r: leaf[r], pruned), inputs)
        shares.append(np.mean(np.argmax(logits, -1) == dataset.validation.labels))
    assert np.mean(shares) >= np.mean(metadata["validation"]) - 0.05
    assert 0 < about["ratio"] < 1


def test_a_penalty_makes_units_small_in_training(finished, penalised):
    norms = [
        np.linalg.norm(results.load(path, "original")["params"]["fc1"]["kernel"])
        for path in (penalised, finished[0])
    ]
    assert norms[0] < 0.9 * norms[1]


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished[0]) == {"scratch_b/0.5"}
