"""The plans of a run: candidates of its trained network, timed on this machine."""

# R replicates

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.devices import processes
from groundwork.traced import override
from lowrank import factorization, setup
from lowrank.choose import candidates, plans, timing
from lowrank.choose.candidates import DENSE
from lowrank.choose.ranks import Candidate
from lowrank.factorization import Plan
from lowrank.setup import Experiment
from lowrank.spec import Point

Planner = Callable[[Point], dict[str, Any]]  # of a point: its plan, the table of its layers
SEEN = 256  # training images that data-aware decompositions look at


def make_planner(experiment: Experiment, variables: Any) -> Planner:
    """A point of the sweep → its plan and the table of its layers, as JSON. On one process."""
    spec, decompose = experiment.spec, experiment.spec.decompose
    own = jax.tree.map(lambda leaf: leaf[0], variables)
    found, refused = setup.reached(spec, experiment.model, own, experiment.dataset.shape)
    kernels = {p: np.asarray(factorization.parameters(variables, p)["kernel"]) for p in found}
    measure = functools.cache(plans.MEASURES[decompose.measure])
    timed = functools.cache(lambda p, method, rank: timing.layers(found[p], method, rank))

    def faster(path, candidate):
        if decompose.keep_slow:
            return True
        dense, factorised = timed(path, candidate.method, candidate.rank)
        return factorised < dense

    in_time = decompose.measure == "milliseconds"
    counted = candidates.macs if in_time else measure
    options = _options(experiment, variables, found, kernels, counted)

    def plan(point: Point) -> dict[str, Any]:
        if decompose.ranks == "budget":
            table = options(point.method)
            table = timing.priced(found, table, measure) if in_time else table
            budget = plans.budget_of(table, point.share, point.method, decompose.measure)
            planned = plans.by_budget(table, budget, faster)
        else:
            rule = decompose.rule(point.share)
            planned = plans.by_rule(found, kernels, point.method, rule, measure, faster)
        rows = [_layer_row(path, layer, planned.plan, timed) for path, layer in found.items()]
        return {**planned._asdict(), "layers": rows, "not_reached": refused}

    return plan


def _options(
    experiment: Experiment,
    variables: Any,
    found: Mapping[str, override.Reached],
    kernels: Mapping[str, np.ndarray],
    measure: candidates.CostFn,
) -> Callable[[str], plans.Table]:
    """A sweep's method → every layer's candidates. A method's are found once for all sweeps."""
    known: dict[tuple[str, str], list[Candidate]] = {}

    @functools.cache
    def options(method: str) -> plans.Table:
        seen = _seen(experiment, variables, found) if method == "svd_outputs" else {}
        table = {}
        for path, layer in found.items():
            names = plans.names(layer, method)
            for name in names:
                _look(experiment, method)
                if (path, name) not in known:
                    inputs = seen.get(path)
                    own = candidates.of_layer(layer, kernels[path], (name,), measure, inputs)
                    known[path, name] = own
            dense = known[path, names[0]][0]
            table[path] = [dense, *(c for name in names for c in known[path, name][1:])]
        return table

    return options


def _look(experiment: Experiment, method: str) -> None:
    """Leave if asked to: a plan takes minutes. Several processes agree on that at a step alone."""
    if processes.count() == 1 and experiment.interruption.reached():
        raise experiment.interruption.stop(f"the unit before the plans of {method}")


def _layer_row(
    path: str, layer: override.Reached, plan: Plan, timed: Callable[..., tuple[float, float]]
) -> dict[str, Any]:
    """What the report says of a layer: costs before and after."""
    entry = plan.get(path, {"method": DENSE, "rank": 0})
    method, rank = entry["method"], entry["rank"]
    rank = tuple(rank) if isinstance(rank, list) else rank
    dense, after = timed(path, method, rank)
    return {
        "path": path,
        "shape": list(layer.kernel),
        **entry,
        "parameters": [candidates.parameters(layer, m, rank) for m in (DENSE, method)],
        "macs": [candidates.macs(layer, m, rank) for m in (DENSE, method)],
        "milliseconds": [1e3 * dense, 1e3 * (after if method != DENSE else dense)],
    }


def _seen(
    experiment: Experiment, variables: Any, found: Mapping[str, override.Reached]
) -> dict[str, np.ndarray]:
    """Path → [R, rows, N] what each layer is given."""
    inputs = setup.training_inputs(experiment.dataset, SEEN)
    own = []
    for r in range(experiment.spec.replicates):
        one = jax.tree.map(lambda leaf, r=r: jnp.asarray(leaf[r]), variables)
        own.append(factorization.rows(experiment.model, one, tuple(found), inputs))
    return {path: np.stack([np.asarray(rows[path]) for rows in own]) for path in found}
