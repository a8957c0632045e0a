"""The command, end to end, on a tiny network: units, plans, sources, continuing."""

import itertools
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
from groundwork.runs import metrics, trained
from groundwork.runs.run import Run
from lowrank import factorization, main, results, spec, work
from lowrank.choose.planner import SEEN
from lowrank.factorization.layers import Decomposed
from tests import steps
from tests.conftest import ROOT
from tests.lottery.small import assert_same_tree
from tests.lowrank import small
from tests.lowrank.small import BOTH, SCRATCH

pytestmark = pytest.mark.slow


def test_every_point_has_a_plan_a_sweep_and_a_control(finished):
    folder, printed = finished
    for point in ("svd-0.5", "svd_outputs-0.5"):
        assert point in printed
        for unit in ("plans", "sweep", "scratch"):
            assert (folder / f"checkpoints/{unit}/{point}/final").is_dir()
    page = (folder / "report.html").read_text()
    assert page.count("</figure>") == 2
    assert "scratch" in page


def test_a_run_is_finished_when_all_is_done_that_it_was_asked_for(finished):
    asked = spec.from_config(results.read(finished[0]).config)
    assert sorted(spec.unit_names(asked)) == Run(finished[0]).units()


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


def test_a_control_begins_with_the_initialisation_decomposed(finished):
    folder, _ = finished
    for point in BOTH:
        _, control = Run(folder).unit(f"scratch/{point}-0.5").result()
        _, tuned = Run(folder).unit(f"sweep/{point}-0.5").result()
        assert np.mean(control["before"]["test"]) < 0.35 < np.mean(tuned["before"]["test"])
        assert set(control["before"]) == {"validation", "test"}
        assert control["stalled"] == tuned["stalled"] == []


def test_a_layer_is_stalled_where_any_replicates_factors_are():
    found = [
        {"a": Decomposed((), 0.25, True), "b": Decomposed((), 0.5, True)},
        {"a": Decomposed((), 0.75, False), "b": Decomposed((), 0.5, True)},
    ]
    quality = work.quality({"a": {}, "b": {}}, found)
    assert quality == {"errors": {"a": [0.25, 0.75], "b": [0.5, 0.5]}, "stalled": ["a"]}


def test_a_plan_that_is_lost_takes_its_networks_with_it(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    manifest = folder / "checkpoints/plans/svd-0.5/final/manifest.json"
    manifest.write_text(manifest.read_text().replace('"svd"', '"sdv"'))
    small.train(folder, SCRATCH, methods=BOTH)
    log = (folder / "run.log").read_text()
    for unit in ("sweep", "scratch"):
        assert f"the plan of {unit}/svd-0.5 is lost" in log
        assert (folder / f"checkpoints/{unit}/svd-0.5/final.damaged-1").is_dir()
        assert_same_tree(*(results.load(f, f"{unit}/svd-0.5") for f in (folder, finished[0])))
    assert "svd_outputs-0.5 is lost" not in log


def test_the_same_command_shows_it_again_and_more_shares_extend_it(finished, tmp_path):
    folder, printed = finished
    before = (folder / "metrics.jsonl").read_bytes()
    assert small.run(folder, SCRATCH, methods=BOTH) == printed
    assert (folder / "metrics.jsonl").read_bytes() == before
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    small.train(folder, SCRATCH, shares=(0.5, 0.2))
    names = [point.point.name for point in results.read(folder).points]
    assert names == ["svd-0.5", "svd-0.2", "svd_outputs-0.5"]
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)


def test_asked_to_stop_in_the_middle_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    looks = iter(range(1000))
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 12)
    with pytest.raises(Interrupted, match=r"saved at sweep/svd-0\.5, step 20"):
        small.train(tmp_path / "run")
    monkeypatch.undo()
    small.train(tmp_path / "run")
    for unit in ("original", "sweep/svd-0.5"):
        assert_same_tree(*(results.load(path, unit) for path in (tmp_path / "run", finished[0])))
    continued, whole = (results.read(path).points[0] for path in (tmp_path / "run", finished[0]))
    assert (continued.before, continued.test) == (whole.before, whole.test)


@pytest.fixture(scope="module")
def given(finished, tmp_path_factory):
    """Runs of a network of another run, with ranks by energy, and of a file, by evidence."""
    folder, _ = finished
    tmp_path = tmp_path_factory.mktemp("given")
    theirs = results.load(folder, "original")
    path = tmp_path / "network.npz"
    trained.save(path, jax.tree.map(lambda leaf: leaf[0], theirs))
    for ranks, source, share in (("energy", (folder, "original"), 0.9), ("vbmf", (path, ""), 0.5)):
        small.train(
            tmp_path / ranks,
            f"--config.source.path={source[0]}",
            f"--config.source.unit={source[1]}",
            f"--config.decompose.ranks={ranks}",
            "--config.fine_tune.steps=1",
            shares=(share,),
        )
    return tmp_path


def test_a_network_may_come_from_another_run_or_from_a_file(finished, given):
    theirs = results.load(finished[0], "original")
    first = jax.tree.map(lambda leaf: np.stack([leaf[0]] * 2), theirs)
    for name, wanted in (("energy", theirs), ("vbmf", first)):
        assert_same_tree(results.load(given / name, "original"), wanted)
        rows = metrics.read(given / name / "metrics.jsonl")
        assert not [row for row in rows if row["unit"] == "original"]


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


def test_ranks_by_energy_and_by_evidence(given):
    (point,) = results.read(given / "energy").points
    kernels = results.read(given / "energy").kernels()
    for path, entry in point.plan.items():
        sigma = np.linalg.svd(kernels[path], compute_uv=False) ** 2
        held = np.cumsum(sigma, -1) / sigma.sum(-1, keepdims=True)
        assert entry["rank"] == round(np.mean([(own < 0.9).sum() + 1 for own in held]))
    (point,) = results.read(given / "vbmf").points
    assert point.point.name == "svd-vbmf"


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


def test_the_steps_that_were_said_beforehand_are_those_of_each_unit(finished):
    assert steps.agree(main.STUDY, finished[0]) == set()
