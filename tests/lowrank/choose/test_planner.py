"""The plans of a run: which kernels, costs and times they are made of. Nothing is timed."""

import functools
import signal
import types

import jax
import numpy as np
import pytest

from groundwork import architectures
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import PREEMPTED, Interrupted, Interruption
from lowrank import work
from lowrank.choose import candidates, planner, plans, ranks, timing
from lowrank.choose.planner import Planner
from lowrank.choose.rules import Rules
from tests.conftest import ROOT
from tests.lowrank.choose.test_candidates import conv, dense

R = 2
RULES = dict(
    methods=("svd",), ranks="budget", shares=(0.5,), measure="macs", leave=(), keep_slow=False
)


@functools.cache
def _parts():
    """A network, its data, and variables [R, …] that were drawn."""
    config = config_lib.resolve(config_lib.load(str(ROOT / "configs/lowrank/digits.py")))
    config["model"]["width"] = 0.2
    dataset = data_lib.load(config)
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.shape)
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda s: rng.normal(size=(R, *s.shape)).astype("f4"), shapes)
    return model, dataset, drawn


def _planner(stop_if_asked=lambda method: None, **rules):
    model, dataset, variables = _parts()
    return Planner(
        model=model,
        variables=variables,
        example=jax.ShapeDtypeStruct((1, *dataset.shape), "float32"),
        rules=Rules(**{**RULES, **rules}),
        inputs=lambda: data_lib.normalize(dataset, dataset.train.inputs[: planner.SEEN]),
        stop_if_asked=stop_if_asked,
    )


def _plan(method, share, monkeypatch, slow=(), **rules):
    """A plan where factors of the layers in `slow` take twice their time, and others half of it."""
    monkeypatch.setattr(
        timing,
        "layers",
        lambda reached, method, rank: (1e-3, 2e-3 if reached.layer.path in slow else 0.5e-3),
    )
    return _planner(**rules).plan(method, share)


def _macs(shape, rank):
    return rank * sum(shape) if rank else shape[0] * shape[1]


def test_the_budget_is_spent_by_all_replicates_kernels(monkeypatch):
    planned = _plan("svd", 0.5, monkeypatch)
    variables = _parts()[-1]
    kernels = {path: leaves["kernel"] for path, leaves in variables["params"].items()}
    table = {}
    for path, stack in kernels.items():
        sigma = np.linalg.svd(stack.astype("f8"), compute_uv=False) ** 2
        left = 1 - np.cumsum(sigma, 1) / sigma.sum(1, keepdims=True)
        table[path] = [ranks.Candidate("dense", 0, _macs(stack.shape[1:], 0), 0.0)] + [
            ranks.Candidate(
                "svd", rank, _macs(stack.shape[1:], rank), left[:, rank - 1].mean() ** 0.5
            )
            for rank in candidates.ladder(min(stack.shape[1:]))
            if _macs(stack.shape[1:], rank) < _macs(stack.shape[1:], 0)
        ]
    budget = sum(options[0].cost for options in table.values()) // 2
    chosen = ranks.choose(table, budget)
    assert planned["plan"] == {
        path: {"method": "svd", "rank": option.rank}
        for path, option in chosen.items()
        if option.method == "svd"
    }
    spent = sum(row["macs"][1] for row in planned["layers"])
    assert 0.8 * budget < spent <= budget


def test_a_row_says_what_a_layer_costs_before_and_after(monkeypatch):
    planned = _plan("svd", 0.5, monkeypatch)
    assert planned["plan"]
    assert [row["path"] for row in planned["layers"]] == list(_parts()[-1]["params"])
    for row in planned["layers"]:
        whole, rank = row["shape"][0] * row["shape"][1], row["rank"]
        after = rank * sum(row["shape"]) if rank else whole
        assert row["parameters"] == row["macs"] == [whole, after]
        assert row["milliseconds"] == ([1.0, 0.5] if rank else [1.0, 1.0])
        assert row["method"] == ("svd" if rank else "dense")
        assert (row["path"] in planned["plan"]) == bool(rank)


def test_slow_layers_are_left_unless_they_are_wanted(monkeypatch):
    planned = _plan("svd", 0.9, monkeypatch, slow=("fc1",))
    assert "fc1" not in planned["plan"]
    assert "fc1" in planned["slow"]
    planned = _plan("svd", 0.3, monkeypatch, slow=("fc1",))
    assert "fc1" in planned["plan"]
    assert planned["needed"] == ["fc1"]
    planned = _plan("svd", 0.5, monkeypatch, slow=("fc1", "fc2"), keep_slow=True)
    assert planned["plan"].keys() >= {"fc1"}
    assert (planned["slow"], planned["needed"]) == ([], [])


def test_layers_that_are_left_are_listed_and_cost_nothing_of_the_budget(monkeypatch):
    planned = _plan("svd", 0.5, monkeypatch, leave=("fc1",))
    assert planned["not_reached"] == {"fc1": "leave names it"}
    assert "fc1" not in [row["path"] for row in planned["layers"]]
    rows = np.array([row["macs"] for row in planned["layers"]]).sum(0)
    assert rows[1] <= 0.5 * rows[0]


def test_parameters_can_be_counted_instead_and_energy_needs_no_budget(monkeypatch):
    measures = []
    original = candidates.parameters

    def parameters(*args):
        measures.append(args[1])
        return original(*args)

    monkeypatch.setitem(plans.MEASURES, "parameters", parameters)
    _plan("svd", 0.5, monkeypatch, measure="parameters")
    assert measures
    planned = _plan("svd", 0.6, monkeypatch, ranks="energy", methods=("svd",))
    for path, entry in planned["plan"].items():
        stack = _parts()[-1]["params"][path]["kernel"]
        mean = np.mean([ranks.energy(kernel, 0.6) for kernel in stack])
        assert entry == {"method": "svd", "rank": round(mean)}


def test_a_budget_in_time_counts_times_and_takes_each_once(monkeypatch):
    asked = []

    def cost(reached, method, rank):
        asked.append((reached.layer.path, method, rank))
        return 1000 * reached.kernel[1] if method == candidates.DENSE else 10 * rank

    monkeypatch.setitem(plans.MEASURES, "milliseconds", cost)
    monkeypatch.setattr(timing, "TIMED", 3)
    planned = _plan("svd", 0.02, monkeypatch, measure="milliseconds")
    assert len(asked) == len(set(asked)) <= 3 * (1 + timing.TIMED)
    assert planned["plan"].keys() == {"fc1", "fc2", "output"}


def test_each_replicates_own_inputs_are_looked_at(monkeypatch):
    seen = {}
    original = candidates.of_layer

    def of_layer(reached, kernels, methods, cost, inputs=None):
        seen[reached.layer.path] = (kernels, methods, inputs)
        return original(reached, kernels, methods, cost, inputs)

    monkeypatch.setattr(candidates, "of_layer", of_layer)
    _plan("svd_outputs", 0.5, monkeypatch)
    params = _parts()[-1]["params"]
    for path, (kernels, methods, inputs) in seen.items():
        assert methods == ("svd_outputs",)
        np.testing.assert_array_equal(kernels, params[path]["kernel"])
        assert inputs.shape == (R, planner.SEEN, kernels.shape[1])
    first = [x.reshape(planner.SEEN, -1) for x in seen["fc1"][2]]
    np.testing.assert_array_equal(*first)  # the images
    dataset = _parts()[1]
    images = data_lib.normalize(dataset, dataset.train.inputs[: planner.SEEN])
    np.testing.assert_allclose(first[0], images.reshape(planner.SEEN, -1), atol=1e-6)
    hidden = np.maximum(first[0] @ params["fc1"]["kernel"][1] + params["fc1"]["bias"][1], 0)
    np.testing.assert_allclose(seen["fc2"][2][1], hidden, rtol=1e-3, atol=1e-3)


def _with_layers(layers, monkeypatch, **options):
    """A planner that knows these layers; nothing is known of their kernels."""
    monkeypatch.setattr(planner.factorization, "decomposable", lambda *_: (layers, {}))
    monkeypatch.setattr(planner.factorization, "kernel", lambda _, one: np.zeros(one.kernel))
    return _planner(**options)


def test_a_methods_candidates_are_found_once_for_all_sweeps(monkeypatch):
    asked = []

    def of_layer(reached, kernels, methods, cost, inputs=None):
        (method,) = methods
        asked.append((reached.layer.path, method))
        whole = ranks.Candidate(candidates.DENSE, 0, 9, 0.0)
        return [whole, ranks.Candidate(method, 1, 5, 0.5)]

    monkeypatch.setattr(candidates, "of_layer", of_layer)
    made = _with_layers({"conv": conv(), "fc": dense()}, monkeypatch)
    for method, names in (
        ("tucker", ["tucker"]),
        ("any", ["svd", "spatial", "tucker", "cp"]),
        ("any", ["svd", "spatial", "tucker", "cp"]),
    ):
        table = made.table(method)
        assert [option.method for option in table["conv"]] == [candidates.DENSE, *names]
        assert [option.method for option in table["fc"]] == [candidates.DENSE, "svd"]
    assert len(asked) == len(set(asked)) == 5


def test_asked_to_stop_a_plan_is_given_up_between_two_layers(monkeypatch):
    searched, sweeps = [], []

    def of_layer(reached, *rest):
        searched.append(reached.layer.path)
        return [ranks.Candidate(candidates.DENSE, 0, 9, 0.0)]

    def stop_if_asked(method):
        sweeps.append(method)
        if searched:
            raise Interrupted("stop", PREEMPTED)

    monkeypatch.setattr(candidates, "of_layer", of_layer)
    made = _with_layers({"a": dense(), "b": dense()}, monkeypatch, stop_if_asked=stop_if_asked)
    with pytest.raises(Interrupted):
        made.table("svd")
    assert (len(searched), sweeps) == (1, ["svd", "svd"])


def test_a_run_that_is_asked_to_stop_says_which_plan_comes_next():
    asked = Interruption()
    stop = work.stop_if_asked(types.SimpleNamespace(interruption=asked))
    stop("svd")
    asked._ask(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="saved at the unit before the plans of svd") as stopped:
        stop("svd")
    assert stopped.value.code == PREEMPTED


def test_a_share_that_is_not_reached_is_refused():
    with pytest.raises(plans.BudgetError, match=r"^0\.001 of the dense layers' macs is"):
        _planner().plan("svd", 0.001)
