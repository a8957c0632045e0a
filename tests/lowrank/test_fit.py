"""The command, end to end, on a tiny network: units, plans, report, errors, continuing."""

import dataclasses
import itertools
import json
import shutil
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.report import figures
from groundwork.runs import trained
from groundwork.runs.run import Run
from groundwork.traced import override as surgery
from groundwork.traced.macs import multiply_adds
from lowrank import analysis, factorization, fit, prediction, report, results, spec, work
from lowrank.choose.planner import SEEN
from lowrank.factorization.layers import Decomposed
from lowrank.fit import make_objective
from lowrank.setup import Experiment
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree
from tests.lowrank import small

pytestmark = pytest.mark.slow

BOTH = ("svd", "svd_outputs")
SCRATCH = "--config.decompose.scratch=true"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lowrank") / "run"
    printed = small.run(folder, SCRATCH, methods=BOTH)
    return folder, printed


def test_every_point_has_a_plan_a_sweep_and_a_control(finished):
    folder, printed = finished
    for point in ("svd-0.5", "svd_outputs-0.5"):
        assert point in printed
        for unit in ("plans", "sweep", "scratch"):
            assert (folder / f"checkpoints/{unit}/{point}/final").is_dir()
    page = (folder / "report.html").read_text()
    assert page.count("<img") == 2
    assert "scratch" in page


def test_the_page_has_each_table_under_its_heading(finished):
    folder, _ = finished
    run, page = results.read(folder), (folder / "report.html").read_text()
    tables = {f"Layers of {own.point.name}": report._layer_table(own) for own in run.points}
    tables |= {"Networks": report._network_table(run), "Measured times": report._time_table(run)}
    for heading, rows in tables.items():
        assert f"<h2>{heading}</h2>{figures.table(*rows)}" in page
    assert "over 2 replicates" in page


def test_costs_and_accuracies_are_those_of_the_saved_networks(finished):
    folder, _ = finished
    run = results.read(folder)
    model = architectures.build(run.config, 10)
    dataset = data_lib.load(run.config)
    inputs = data_lib.normalize(dataset, jax.numpy.asarray(dataset.test.inputs))
    for point in run.points:
        apply = factorization.override(model, point.plan)
        variables = results.load(folder, f"sweep/{point.point.name}")
        for r in range(2):
            own = jax.tree.map(lambda leaf, r=r: leaf[r], variables)
            right = np.asarray(apply(own, inputs)).argmax(-1) == dataset.test.labels
            assert right.mean() == pytest.approx(point.test[r], abs=1e-6)
        assert point.macs == multiply_adds(apply, own, inputs[:1])
        assert point.parameters == sum(leaf.size for leaf in jax.tree.leaves(own))
        assert 0.4 * run.original.macs < point.macs <= 0.5 * run.original.macs
        assert sum(row["macs"][1] for row in point.layers) == point.macs
        assert sum(row["macs"][0] for row in point.layers) == run.original.macs


def test_before_fine_tuning_it_is_the_decomposed_original(finished):
    folder, _ = finished
    run = results.read(folder)
    model = architectures.build(run.config, 10)
    dataset = data_lib.load(run.config)
    inputs = data_lib.normalize(dataset, jax.numpy.asarray(dataset.test.inputs))
    looked_at = data_lib.normalize(dataset, jax.numpy.asarray(dataset.train.inputs[:SEEN]))
    original = results.load(folder, "original")
    assert [point.point.method for point in run.points] == list(BOTH)
    for point, r in itertools.product(run.points, range(2)):
        own = jax.tree.map(lambda leaf, r=r: jax.numpy.asarray(leaf[r]), original)
        apply, changed = factorization.factorize(model, own, point.plan, looked_at)
        right = np.asarray(apply(changed, inputs)).argmax(-1) == dataset.test.labels
        assert right.mean() == pytest.approx(point.before[r], abs=1e-6)
        kernel = own["params"]["fc1"]["kernel"]
        difference = kernel - factorization.reconstruct(changed, "fc1", point.plan["fc1"])
        if point.point.method == "svd_outputs":  # errors are of its layer's outputs
            difference, kernel = (looked_at.reshape(SEEN, -1) @ w for w in (difference, kernel))
        error = np.linalg.norm(difference) / np.linalg.norm(kernel)
        assert point.errors["fc1"][r] == pytest.approx(error, abs=1e-5)


def test_fine_tuning_trains_and_the_control_starts_anew(finished):
    run = results.read(finished[0])
    (svd, outputs) = run.points
    assert np.mean(svd.test) > np.mean(svd.before) + 0.02
    assert np.mean(outputs.before) > np.mean(svd.before)  # it has looked at data
    assert svd.scratch is not None
    assert svd.scratch.macs == svd.macs
    assert svd.scratch.test != svd.test


def test_the_kernels_of_a_run_are_the_originals(finished):
    params = results.load(finished[0], "original")["params"]
    for path, kernels in results.read(finished[0]).kernels().items():
        np.testing.assert_array_equal(kernels, params[path]["kernel"])


def test_the_original_and_its_fine_tuned_form_are_read_apart(finished):
    run = results.read(finished[0])
    assert run.fine_tuned is not None
    for unit, network in (("original", run.original), ("fine_tuned", run.fine_tuned)):
        _, saved = Run(finished[0]).unit(unit).result()
        assert dataclasses.asdict(network).items() <= saved.items()


def test_a_run_is_finished_when_all_is_done_that_it_was_asked_for(finished):
    asked = spec.from_config(results.read(finished[0]).config)
    assert sorted(spec.unit_names(asked)) == Run(finished[0]).units()


def test_each_network_is_trained_for_its_own_steps(finished):
    folder, _ = finished
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, int] = {}
    for row in rows:
        last[row["unit"]] = max(last.get(row["unit"], 0), row["step"])
    assert last == {
        "original": 120,
        "fine_tuned": 40,
        **{f"sweep/{point}-0.5": 40 for point in BOTH},
        **{f"scratch/{point}-0.5": 120 for point in BOTH},
    }


def test_rows_are_of_all_splits_and_end_with_the_accuracies_of_the_result(finished):
    folder, _ = finished
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    for point in results.read(folder).points:
        own = [row for row in rows if row["unit"] == f"sweep/{point.point.name}"]
        assert {row["parameters"] for row in own} == {point.parameters}
        for split in ("train", "validation"):
            assert [row["step"] for row in own if row["split"] == split] == [20, 20, 40, 40]
        _, saved = Run(folder).unit(f"sweep/{point.point.name}").result()
        for split in ("validation", "test"):
            ends = [row for row in own if row["split"] == split and row.get("at", "end") == "end"]
            assert saved[split] == pytest.approx([row["accuracy"] for row in ends[-2:]])


def test_each_network_is_trained_by_its_own_optimiser(finished):
    """Biases begin at 0, and Adam moves them by about a learning rate a step at most."""
    folder, _ = finished

    def biases(unit):
        params = results.load(folder, unit)["params"]
        return np.concatenate([layer["bias"] for layer in params.values()], -1)

    original = biases("original")
    for unit in ("fine_tuned", *(f"sweep/{point}-0.5" for point in BOTH)):
        assert np.abs(biases(unit) - original).max() < 0.01  # 40 steps, 3e-4 that falls to 0
    for unit in ("original", *(f"scratch/{point}-0.5" for point in BOTH)):
        assert np.abs(biases(unit)).max() > 0.03  # 120 steps, 1.2e-3


def test_a_control_begins_with_the_initialisation_decomposed(finished):
    folder, _ = finished
    for point in BOTH:
        _, control = Run(folder).unit(f"scratch/{point}-0.5").result()
        _, tuned = Run(folder).unit(f"sweep/{point}-0.5").result()
        assert np.mean(control["before"]["test"]) < 0.35 < np.mean(tuned["before"]["test"])
        assert set(control["before"]) == {"validation", "test"}
        assert control["stalled"] == tuned["stalled"] == []


def test_a_plan_that_is_lost_takes_its_networks_with_it(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    manifest = folder / "checkpoints/plans/svd-0.5/final/manifest.json"
    manifest.write_text(manifest.read_text().replace('"svd"', '"sdv"'))
    small.run(folder, SCRATCH, methods=BOTH)
    log = (folder / "run.log").read_text()
    for unit in ("sweep", "scratch"):
        assert f"the plan of {unit}/svd-0.5 is lost" in log
        assert (folder / f"checkpoints/{unit}/svd-0.5/final.damaged-1").is_dir()
        assert_same_tree(*(results.load(f, f"{unit}/svd-0.5") for f in (folder, finished[0])))
    assert "svd_outputs-0.5 is lost" not in log


def test_a_network_whose_plan_is_lost_is_not_shown(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    plan = folder / "checkpoints/plans/svd-0.5/final"
    plan.rename(plan.with_name("final.damaged-1"))
    assert [point.point.name for point in results.read(folder).points] == ["svd_outputs-0.5"]


def test_what_has_stalled_is_read_back_where_a_run_says_so(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    unit = Run(folder).unit("sweep/svd-0.5")
    tree, saved = unit.result()
    del saved["stalled"]
    for said, expected in (({"stalled": ["fc1"]}, ["fc1"]), ({}, [])):
        shutil.rmtree(unit.folder)
        unit.finish(tree, {**saved, **said})
        assert results.read(folder).points[0].stalled == expected


def test_the_same_command_shows_it_again_and_more_shares_extend_it(finished):
    folder, printed = finished
    before = (folder / "metrics.jsonl").read_bytes()
    assert small.run(folder, SCRATCH, methods=BOTH) == printed
    assert (folder / "metrics.jsonl").read_bytes() == before
    more = small.run(folder, SCRATCH, shares=(0.5, 0.2))
    assert "svd-0.2" in more
    names = [point.point.name for point in results.read(folder).points]
    assert names == ["svd-0.5", "svd-0.2", "svd_outputs-0.5"]
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 12)
    with pytest.raises(Interrupted, match=r"saved at sweep/svd-0\.5, step 20"):
        small.run(tmp_path / "run")
    monkeypatch.undo()
    small.run(tmp_path / "run")
    for unit in ("original", "sweep/svd-0.5"):
        assert_same_tree(*(results.load(path, unit) for path in (tmp_path / "run", finished[0])))
    continued, whole = (results.read(path).points[0] for path in (tmp_path / "run", finished[0]))
    assert (continued.before, continued.test) == (whole.before, whole.test)


def test_a_network_may_come_from_another_run_or_from_a_file(finished, tmp_path):
    folder, _ = finished
    theirs = results.load(folder, "original")
    path = tmp_path / "network.npz"
    trained.save(path, jax.tree.map(lambda leaf: leaf[0], theirs))
    for name, source in (("run", (folder, "original")), ("file", (path, ""))):
        small.run(
            tmp_path / name,
            f"--config.source.path={source[0]}",
            f"--config.source.unit={source[1]}",
            "--config.fine_tune.steps=1",
        )
        ours = results.load(tmp_path / name, "original")
        both = jax.tree.map(lambda leaf: np.stack([leaf[0]] * 2), theirs)
        assert_same_tree(ours, theirs if name == "run" else both)
        text = (tmp_path / name / "metrics.jsonl").read_text()
        rows = [json.loads(row) for row in text.splitlines()]
        assert not [row for row in rows if row["unit"] == "original"]


def test_a_few_weights_predict_the_rest(finished, tmp_path):
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    small.run(tmp_path, *source, "--config.fine_tune.steps=1", predict=("fc1",))
    run = results.read(tmp_path)
    curves = run.predicted["fc1"]
    assert set(curves) == {"neighbouring pixels", "inputs' covariance"}
    kernel = run.kernels()["fc1"]
    for curve in curves.values():
        assert curve.shares[-1] == 1
        assert curve.error.shape == (len(curve.shares), 2)
        np.testing.assert_allclose(curve.error[-1], 0, atol=1e-6)
        np.testing.assert_allclose(curve.accuracy[-1], run.original.test, atol=1e-6)
        assert (curve.accuracy[0] < curve.accuracy[-1]).all()
        hidden = curve.error[0] ** 2 / curve.hidden_error[0] ** 2  # share of the squares
        assert (hidden < 1).all()
        assert (hidden > 0.9).all()
        assert np.isfinite(kernel).all()
    assert "Predicting fc1" in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="unknown layer 'fc3'; did you mean"):
        small.run(tmp_path / "wrong", predict=("fc3",))
    assert not (tmp_path / "wrong").exists()


def test_each_replicates_own_inputs_covary(finished):
    run = results.read(finished[0])
    dataset, model = data_lib.load(run.config), architectures.build(run.config, 10)
    nothing = dict.fromkeys(set(Experiment._fields) - {"spec", "model", "dataset"})
    experiment = Experiment(
        spec=spec.from_config(run.config), model=model, dataset=dataset, **nothing
    )
    variables = results.load(finished[0], "original")
    first, kernel = (variables["params"][path] for path in ("fc1", "fc2"))
    found = analysis._covariances(experiment, "fc2", variables, kernel["kernel"].shape)
    images = np.asarray(data_lib.normalize(dataset, dataset.train.inputs[: analysis.SEEN])).reshape(
        -1, 64
    )
    hidden = np.maximum(images @ first["kernel"] + first["bias"][:, None], 0)
    (covariances,) = found.values()
    np.testing.assert_allclose(
        covariances, [prediction.empirical(own) for own in hidden], 1e-3, 1e-4
    )


def test_ranks_by_energy_and_by_evidence(finished, tmp_path):
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    short = (*source, "--config.fine_tune.steps=1")
    small.run(tmp_path / "energy", *short, "--config.decompose.ranks=energy", shares=(0.9,))
    (point,) = results.read(tmp_path / "energy").points
    kernels = results.read(tmp_path / "energy").kernels()
    for path, entry in point.plan.items():
        sigma = np.linalg.svd(kernels[path], compute_uv=False) ** 2
        held = np.cumsum(sigma, -1) / sigma.sum(-1, keepdims=True)
        assert entry["rank"] == round(np.mean([(own < 0.9).sum() + 1 for own in held]))
    small.run(tmp_path / "vbmf", *short, "--config.decompose.ranks=vbmf")
    (point,) = results.read(tmp_path / "vbmf").points
    assert point.point.name == "svd-vbmf"


def test_frobenius_decay_makes_the_kernels_smaller(finished, tmp_path):
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    decay = "--config.decompose.frobenius_decay=1.0"
    small.run(tmp_path / "run", *source, decay, "--config.fine_tune_optimizer.learning_rate=0.01")
    plan = results.read(tmp_path / "run").points[0].plan
    sizes = []
    for folder in (finished[0], tmp_path / "run"):
        own = jax.tree.map(lambda leaf: leaf[0], results.load(folder, "sweep/svd-0.5"))
        made = (factorization.reconstruct(own, *layer) for layer in plan.items())
        sizes.append(sum(float(np.sum(np.square(kernel))) for kernel in made))
    assert sizes[1] < 0.2 * sizes[0]


def test_frobenius_decay_is_half_the_squares_of_what_the_factors_make_up():
    model = architectures.build({"model": {"name": "lenet_300_100", "width": 0.1}}, 10)
    variables = model.init(jax.random.key(0), jax.numpy.zeros((1, 64)))
    plan = {"fc1": {"method": "svd", "rank": 4}}
    apply, changed = factorization.factorize(model, variables, plan)
    network = surgery.Network(model.init, apply)
    batch = fit.programs.Batch(
        jax.random.normal(jax.random.key(1), (5, 64)),
        jax.numpy.arange(5),
        jax.numpy.ones(5, bool),
    )
    plain, decayed = (
        make_objective(network, plan, decay)(jax.random.key(0), changed, batch)[0]
        for decay in (0.0, 0.25)
    )
    left, right = (changed["params"]["fc1"][part]["kernel"] for part in ("left", "right"))
    assert float(decayed - plain) == pytest.approx(0.125 * float(np.sum((left @ right) ** 2)), 1e-3)


def test_a_layer_is_stalled_where_any_replicates_factors_are():
    found = [
        {"a": Decomposed((), 0.25, True), "b": Decomposed((), 0.5, True)},
        {"a": Decomposed((), 0.75, False), "b": Decomposed((), 0.5, True)},
    ]
    quality = work.quality({"a": {}, "b": {}}, found)
    assert quality == {"errors": {"a": [0.25, 0.75], "b": [0.5, 0.5]}, "stalled": ["a"]}


def test_a_source_that_is_not_there_is_said_before_there_is_a_folder(finished, tmp_path):
    for path, unit, said in (
        (tmp_path / "typo", "original", "holds no readable run"),
        (finished[0], "levels/00/ticket", "has no finished levels/00/ticket"),
        (finished[0], "plans/svd-0.5", "plans/svd-0.5 of .* holds no variables"),
    ):
        source = (f"--config.source.path={path}", f"--config.source.unit={unit}")
        with pytest.raises(UserError, match=said):
            small.run(tmp_path / "run", *source)
        assert not (tmp_path / "run").exists()
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    with pytest.raises(UserError, match=r"source\.path: .*data\.standardize=True, not False"):
        small.run(tmp_path / "run", *source, "--config.data.standardize=false")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.decompose.ranks=energi", "did you mean 'energy'"),
        ("--config.decompose.measure=mac", "did you mean 'macs'"),
        ("--config.decompose.leave=('*',)", "no layer is left to decompose"),
        ("--config.decompose.frobenius_decay=-1.0", "must be at least 0"),
        ("--config.decompose.frobenius_decay=nan", "must be at least 0"),
        ("--config.fine_tune.steps=0", r"^fine_tune\.steps=0 must be at least 1"),
        ("--config.fine_tune_optimizer.name=adm", r"unknown fine_tune_optimizer\.name 'adm'"),
        ("--config.optimizer.momentum=1.0", r"^optimizer\.momentum=1\.0 must be"),
        ("--config.fine_tune.batch_size=9999", r"fine_tune\.batch_size=9999 is more than"),
        ("--config.mesh.data=3", r"mesh\.data=3 does not divide train\.batch_size=100"),
        ("--config.decompose.leave=('fc11',)", "decompose.leave 'fc11'; did you mean 'fc1'"),
        ("--config.decompose.leave=(1,)", "must be patterns"),
        ("--config.predict=('fc1', 'fc1')", "each once"),
        ("--config.source.path=nowhere", "holds no readable run"),
        ("--config.source.path=nowhere.npz", "is no readable file of arrays"),
        ("--config.model.name=lenet", "did you mean"),
    ],
)
def test_bad_configs_are_one_clear_line(override, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        small.run(tmp_path / "run", "--config.train.steps=1", override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("methods", "shares", "said"),
    [
        (("sdv",), (0.5,), "did you mean 'svd'"),
        ((), (0.5,), "must name methods, each once"),
        (("svd", "svd"), (0.5,), "must name methods, each once"),
        (("svd",), (0.0,), r"must lie in \(0, 1\]"),
        (("svd",), (1.5,), r"must lie in \(0, 1\]"),
        (("svd",), (0.5, 0.5), "must name each share once"),
        (("svd",), (0.5, 0.50000001), "must name each share once"),
        (("svd",), (True,), r"must lie in \(0, 1\]"),
        (("svd",), ("half",), r"must lie in \(0, 1\]"),
        (("svd",), (), "give shares in"),
        (("svd",), (0.001,), "macs is 5, below 234, what svd costs at rank 1 everywhere"),
    ],
)
def test_bad_sweeps_are_one_clear_line(methods, shares, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        small.run(tmp_path, "--config.train.steps=1", methods=methods, shares=shares)
    assert "\n" not in str(caught.value)


def test_the_ranks_of_cp_are_chosen_by_budget_alone(tmp_path):
    with pytest.raises(UserError, match="ranks of 'cp' are chosen by budget alone"):
        small.run(tmp_path, "--config.decompose.ranks=vbmf", methods=("cp",))


def test_what_looks_at_images_takes_no_stream(tmp_path):
    stream = [
        "--config.data.name=tiny_digits",
        "--config.data.source=tfds",
        f"--config.data.dir={ROOT / 'tests/fixtures/tfds'}",
        "--config.data.stream=true",
        "--config.data.validation_examples=20",
        "--config.train.batch_size=16",
    ]
    for methods, predict in ((BOTH, ()), (("svd",), ("fc1",))):
        with pytest.raises(UserError, match="stream=false, or leave them out") as caught:
            small.run(tmp_path / "run", *stream, methods=methods, predict=predict)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


class Shared(nn.Module):
    """Its second layer is called twice."""

    classes: int
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, train=False):
        twice = nn.Dense(8, name="twice")
        x = nn.Dense(8, name="fc")(inputs.reshape((inputs.shape[0], -1)))
        return nn.Dense(self.classes, name="output")(twice(nn.relu(twice(x))))


def test_inputs_that_cannot_be_seen_are_said_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(architectures.MODELS, "shared", Shared)
    named = "--config.model.name=shared"
    with pytest.raises(UserError, match=r"'twice' is shared, by 2 calls.*decompose\.leave"):
        small.run(tmp_path / "run", named, methods=BOTH)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(work, "sweep", _begun)
    left = "--config.decompose.leave=('twice',)"
    for methods, option in ((("svd",), ()), (BOTH, (left,))):
        with pytest.raises(AssertionError, match="begun"):
            small.run(tmp_path / methods[-1], named, *option, methods=methods)


def _begun(experiment):
    raise AssertionError("begun")


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished original"):
        results.load(tmp_path, "original")
    with pytest.raises(UserError, match="holds no readable run"):
        results.read(tmp_path)
