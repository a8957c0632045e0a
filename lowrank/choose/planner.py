"""The plans of a trained network: its candidates, timed on this machine. Read `Planner.plan`."""

# R replicates, B examples

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import trees
from groundwork.traced.reach import Reached
from groundwork.trees import Variables
from lowrank import factorization
from lowrank.choose import candidates, plans, timing
from lowrank.choose.candidates import DENSE
from lowrank.choose.plans import Planned, Table
from lowrank.choose.ranks import Candidate
from lowrank.choose.rules import Rules
from lowrank.factorization import Plan

SEEN = 256  # training examples that data-aware decompositions look at


def _go_on(method: str) -> None:
    """Does nothing: nobody can ask the planner to stop."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Planner:
    """Makes the plans of one trained network, on one process. What they share is computed once.

    Attributes:
      model: see `factorization.factorize`.
      variables: [R, …], on the host. A plan is one for all replicates.
      example: what the network is called with, see `factorization.factorize`; shapes suffice.
      rules: what chooses the ranks.
      inputs: gives the network inputs [B, …] that `svd_outputs` looks at; it is called only then.
      stop_if_asked: is called before each search for the candidates of a layer, which may take
        minutes, with the method of the sweep; it raises what ends the run.
    """

    model: Any
    variables: Variables
    example: Any
    rules: Rules
    inputs: Callable[[], jax.Array]
    stop_if_asked: Callable[[str], None] = _go_on

    # (path, method) → candidates, shared by the sweeps: `any` has those of the other methods
    _candidates: dict[tuple[str, str], list[Candidate]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    def plan(self, method: str, share: float) -> dict[str, Any]:
        """Returns the plan of a sweep at one share, and a table of all layers, as JSON keeps them.

        Args:
          method: of the sweep.
          share: of the cost or of the energy; any number where neither decides.

        Raises:
          BudgetError: the budget is below the cost of the cheapest choice.
        """
        planned = self._planned(method, share)
        rows = [self._row(path, planned.plan) for path in self.layers]
        return {**planned._asdict(), "layers": rows, "not_reached": self._reached[1]}

    def table(self, method: str) -> Table:
        """Returns each layer's candidates for a sweep, with the costs that the budget counts."""
        table = {}
        for path, layer in self.layers.items():
            by_method = [self._of_layer(path, name, method) for name in plans.names(layer, method)]
            dense, *_ = by_method[0]
            table[path] = [dense, *(option for options in by_method for option in options[1:])]
        if self.rules.measure == "milliseconds":
            return timing.priced(self.layers, table, self._cost)
        return table

    @property
    def layers(self) -> dict[str, Reached]:
        """The layers that may be decomposed, by path."""
        return self._reached[0]

    @functools.cached_property
    def _reached(self) -> tuple[dict[str, Reached], dict[str, str]]:
        """The layers that may be decomposed; and path → the reason, of the others."""
        one = trees.replicate(self.variables, 0)
        return factorization.decomposable(self.model, one, self.example, self.rules.leave)

    @functools.cached_property
    def _kernels(self) -> dict[str, np.ndarray]:
        """Path → [R, …], those of all layers of a stack one by one."""
        kernels = {}
        for path, layer in self.layers.items():
            stacked = np.asarray(factorization.kernel(self.variables, layer))
            kernels[path] = stacked.reshape(-1, *layer.kernel)
        return kernels

    @functools.cached_property
    def _seen(self) -> dict[str, np.ndarray]:
        """Path → [R, rows, N], what each layer is given."""
        inputs = self.inputs()
        by_replicate = []
        for r in range(trees.replicates(self.variables)):
            one = jax.tree.map(jnp.asarray, trees.replicate(self.variables, r))
            by_replicate.append(factorization.rows(self.model, one, self.layers, inputs))
        return trees.stack(by_replicate)

    @functools.cached_property
    def _cost(self) -> candidates.CostFn:
        """The measure of the budget; each candidate is counted, or timed, once."""
        measure = plans.MEASURES[self.rules.measure]
        return functools.cache(self._on_batches(measure) if measure is timing.cost else measure)

    @functools.cached_property
    def _seconds(self) -> Callable[[Reached, str, Any], tuple[float, float]]:
        """(layer, method, rank) → seconds dense and factorised; each candidate is timed once."""
        return functools.cache(self._on_batches(timing.layers))

    def _on_batches(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of a layer on `timing.BATCH` examples, given the layer on one."""

        def on_batch(layer: Reached, method: str, rank: Any) -> Any:
            return function(self._batched.get(layer.layer.path, layer), method, rank)

        return on_batch

    @functools.cached_property
    def _batched(self) -> dict[str, Reached]:
        """The layers as they are reached on `timing.BATCH` examples, for times."""
        batch = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((timing.BATCH, *leaf.shape[1:]), leaf.dtype),
            self.example,
        )
        one = trees.replicate(self.variables, 0)
        return factorization.decomposable(self.model, one, batch, self.rules.leave)[0]

    def _planned(self, method: str, share: float) -> Planned:
        if self.rules.ranks == "budget":
            table = self.table(method)
            budget = plans.budget_of(table, share, method, self.rules.measure)
            return plans.by_budget(table, budget, self._faster)
        rule = self.rules.rule(share)
        return plans.by_rule(self.layers, self._kernels, method, rule, self._cost, self._faster)

    def _of_layer(self, path: str, name: str, method: str) -> list[Candidate]:
        """Returns a layer's candidates by the method `name`, for a sweep by `method`.

        Where the budget is of time, their costs are multiply-adds: only some of them are timed.
        """
        if (path, name) not in self._candidates:
            self.stop_if_asked(method)
            cost = candidates.macs if self.rules.measure == "milliseconds" else self._cost
            inputs = self._seen.get(path) if name == "svd_outputs" else None
            self._candidates[path, name] = candidates.of_layer(
                self.layers[path], self._kernels[path], (name,), cost, inputs
            )
        return self._candidates[path, name]

    def _faster(self, path: str, candidate: Candidate) -> bool:
        if self.rules.keep_slow:
            return True
        dense, factorised = self._seconds(self.layers[path], candidate.method, candidate.rank)
        return factorised < dense

    def _row(self, path: str, plan: Plan) -> dict[str, Any]:
        """Returns what the report says of a layer: its costs before and after."""
        layer, entry = self.layers[path], plan.get(path, {"method": DENSE, "rank": 0})
        method, rank = entry["method"], entry["rank"]
        rank = tuple(rank) if isinstance(rank, list) else rank
        dense, after = self._seconds(layer, method, rank)
        return {
            "path": path,
            "shape": list(layer.kernel),
            **entry,
            "parameters": [candidates.parameters(layer, name, rank) for name in (DENSE, method)],
            "macs": [candidates.macs(layer, name, rank) for name in (DENSE, method)],
            "milliseconds": [1e3 * dense, 1e3 * (after if method != DENSE else dense)],
        }
