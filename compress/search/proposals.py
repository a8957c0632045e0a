"""Which choice comes next, and which candidate is worth more rounds.

The first candidates are known beforehand: analytic choices for budgets around those that are asked
for, and uniform settings, from the largest to the smallest, so that each continues the one before.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compress.search import analytic, evolve, history
from compress.search.analytic import Knowledge
from compress.search.history import Candidate, Judged, changed
from compress.search.made import Search
from compress.search.settings import Choice
from groundwork.errors import UserError

WITHIN = 2.0  # times a budget, up or down: the costs that a proposed choice may have
FEWEST = 6  # analytic choices where no budget is asked for, but a loss


def propose(run: Search, found: Sequence[Candidate]) -> tuple[Choice, str]:
    """Returns the next choice, and who proposes it.

    After the first candidates, one is the analytic choice for budgets that are corrected by what
    the candidate nearest to them really cost; a sampler proposes all others.

    Args:
      run: of the search.
      found: all candidates before.

    Raises:
      UserError: no choice keeps the budgets; the error has the least that can be kept.
    """
    number = len(found)
    if run.spec.given:
        return changed(run.spec.given.steps[number].choice), "given"
    if run.knowledge is not None:
        first = known_first(run, run.knowledge)
        if number < len(first):
            return first[number]
        if number == len(first) and (choice := _corrected(run, run.knowledge, found)):
            return choice, "analytic"
    strategy = run.spec.search
    sampler = "random" if strategy.control == "random" else strategy.sampler
    choice = evolve.propose(
        run.space,
        found,
        lambda one: objectives(run, one),
        sampler=sampler,
        population=strategy.population,
        seed=run.spec.seed,
        allowed=lambda choice: _worth(run, choice),
    )
    return choice, sampler


def known_first(run: Search, knowledge: Knowledge) -> list[tuple[Choice, str]]:
    """Returns the choices with which the search begins, and who proposes each; the largest first.

    Raises:
      UserError: see `propose`.
    """
    spec = run.spec
    offered = [(one, "analytic") for one in _analytic(run, knowledge)]
    uniform = [changed(one) for one in analytic.uniform(knowledge.space)]
    aims = _aims(run, knowledge)
    near = [one for one in uniform if one and _far(knowledge.costs.of(one), aims) < math.inf]
    near.sort(key=lambda one: _far(knowledge.costs.of(one), aims))
    offered += [(one, "uniform") for one in near[: spec.search.uniform]]
    distinct = [o for i, o in enumerate(offered) if o[0] not in [p[0] for p in offered[:i]]]
    name = spec.objectives[0]
    return sorted(distinct, key=lambda one: -knowledge.costs.of(one[0])[name])


def objectives(run: Search, one: Candidate) -> list[float]:
    """Returns what is minimised: the metric with its sign turned, and logarithms of mean costs."""
    costs = (math.log(max(one.cost(name), 1e-9)) for name in run.spec.objectives)
    return [-run.metric.sign * one.accuracy, *costs]


def goes_on(run: Search, found: Sequence[Candidate], judged: Judged) -> bool:
    """Returns whether a candidate is worth the rounds of the next rung; see `history.goes_on`."""
    spec, sign = run.spec, run.metric.sign

    def far(one: Judged) -> float:
        if spec.budget.asked:
            return _far({n: float(np.mean(c)) for n, c in one.costs.items()}, spec.budget.asked)
        lost = sign * (run.reference - float(np.mean(one.validation)))
        return abs(lost - spec.accuracy.loss)

    return history.goes_on(found, judged, spec.objectives, spec.search.promoted, far, sign)


def _analytic(run: Search, knowledge: Knowledge) -> list[Choice]:
    """Returns the analytic choices for budgets around those that are asked for."""
    budgets = run.spec.budget.asked
    found = []
    if budgets:
        try:
            found.append(analytic.choose(knowledge, budgets))
        except ValueError as error:
            raise UserError(f"budget: {error}") from error
        tried = [{n: b * x for n, b in budgets.items()} for x in run.spec.search.around]
    else:
        name = run.spec.accuracy.cost
        most, least = knowledge.costs.of({})[name], analytic.least_of(knowledge, name)
        count = max(FEWEST, len(run.spec.search.around))
        tried = [{name: x} for x in np.geomspace(most, least, count + 1)[1:]]
    for one in tried:
        try:
            found.append(analytic.choose(knowledge, one))
        except ValueError:  # less than the least: the budgets themselves can be kept
            continue
    return [changed(one) for one in found if changed(one)]


def _corrected(run: Search, knowledge: Knowledge, found: Sequence[Candidate]) -> Choice | None:
    """Returns the choice for budgets times predicted over real costs; None if it is known."""
    budgets, done = run.spec.budget.asked, history.evaluated(found)
    if not budgets or not done:
        return None
    nearest = min(done, key=lambda one: _far({n: one.cost(n) for n in budgets}, budgets))
    predicted = knowledge.costs.of(nearest.choice)
    wanted = {n: b * predicted[n] / max(nearest.cost(n), 1e-9) for n, b in budgets.items()}
    try:
        choice = changed(analytic.choose(knowledge, wanted))
    except ValueError:  # below the least
        return None
    return choice if choice and choice not in [changed(one.choice) for one in found] else None


def _worth(run: Search, choice: Choice) -> bool:
    """Returns whether the additive costs of a choice are near the budgets."""
    budgets = run.spec.budget.asked
    if run.knowledge is None or not budgets:
        return True
    costs = run.knowledge.costs.of(choice)
    return all(b / WITHIN <= costs[n] <= b * WITHIN for n, b in budgets.items()) or (
        len(budgets) > 1 and all(costs[n] <= b * WITHIN for n, b in budgets.items())
    )


def _aims(run: Search, knowledge: Knowledge) -> Mapping[str, float]:
    """Returns the budgets; for a loss, the middle between most and least of the cost."""
    if run.spec.budget.asked:
        return run.spec.budget.asked
    name = run.spec.accuracy.cost
    ends = knowledge.costs.of({})[name], analytic.least_of(knowledge, name)
    return {name: math.sqrt(ends[0] * ends[1])}


def _far(costs: Mapping[str, float], aims: Mapping[str, float]) -> float:
    """Returns how far costs are from others: the largest |log| of a ratio."""
    return max(abs(math.log(max(costs[name], 1e-9) / aim)) for name, aim in aims.items())
