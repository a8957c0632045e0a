"""Training and measuring one network of a run: for how long, by what, and what it costs."""

import jax
import numpy as np
import pytest

from groundwork import architectures
from groundwork.data import dataset as data_lib
from groundwork.runs import metrics
from groundwork.runs.run import Run
from groundwork.traced.macs import multiply_adds
from groundwork.traced.network import Network
from groundwork.train.step import Batch
from lowrank import factorization, results
from lowrank.fit import make_objective
from tests.lowrank import small
from tests.lowrank.small import BOTH

pytestmark = pytest.mark.slow


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


def test_fine_tuning_trains_and_the_control_starts_anew(finished):
    run = results.read(finished[0])
    (svd, outputs) = run.points
    assert np.mean(svd.test) > np.mean(svd.before) + 0.02
    assert np.mean(outputs.before) > np.mean(svd.before)  # it has looked at data
    assert svd.scratch is not None
    assert svd.scratch.macs == svd.macs
    assert svd.scratch.test != svd.test


def test_each_network_is_trained_for_its_own_steps(finished):
    folder, _ = finished
    rows = metrics.read(folder / "metrics.jsonl")
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
    rows = metrics.read(folder / "metrics.jsonl")
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


def test_frobenius_decay_makes_the_kernels_smaller(finished, tmp_path):
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    decay = "--config.decompose.frobenius_decay=1.0"
    small.train(tmp_path / "run", *source, decay, "--config.fine_tune_optimizer.learning_rate=0.01")
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
    changed, _ = factorization.decompose(variables, plan)
    network = Network(model.init, factorization.override(model, plan))
    batch = Batch(
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
