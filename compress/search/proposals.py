"""Which choice comes next, and which candidate is worth more rounds.

The first candidates are known beforehand: analytic choices for budgets around those that are asked
for, and uniform settings, from the largest to the smallest, so that each continues the one before.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compress.search import analytic, evolve, history, nearby
from compress.search.analytic import Knowledge
from compress.search.asked import keeps, lost
from compress.search.history import Candidate, Judged, changed
from compress.search.made import Search
from compress.search.settings import Choice
from groundwork.errors import UserError

WITHIN = 2.0  # times a budget, up or down: the costs that a proposed choice may have
CORRECTED = 6  # analytic choices after the first ones, at most
MARGINS = (1.0, 0.98, 0.95, 0.9, 0.8)  # of the budgets, where a corrected choice is known already
LEAST_LOSS = 1e-3  # nats that losses are counted from
FEWEST = 6  # analytic choices where no budget is asked for, but a loss


Offer = tuple[Choice, str]  # a choice, and who proposes it


def offers(run: Search, found: Sequence[Candidate], count: int) -> list[Offer]:
    """Returns the choices of the next round, each of which is proposed without the results before.

    Args:
      run: of the search.
      found: the candidates of all rounds before.
      count: of the round.

    Raises:
      UserError: see `propose`.
    """
    there, offered = list(found), []
    for _ in range(count):
        choice, origin = propose(run, there)
        offered.append((choice, origin))
        there.append(history.waiting(len(there), choice, origin))
    return offered


def propose(run: Search, found: Sequence[Candidate]) -> Offer:
    """Returns the next choice, and who proposes it.

    After the first candidates comes the analytic choice for budgets that are corrected by what the
    candidate nearest to them really cost, and others like it while none keeps the budgets. Where a
    loss is allowed, analytic choices halve the way between the cheapest that loses so little and
    the next one that loses more. After that, choices around the best candidate, by what is known
    there, take turns with those of a sampler.

    Args:
      run: of the search.
      found: all candidates before; those of its own round have no results.

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
        if choice := _improved(run, run.knowledge, found, number - len(first)):
            return choice, "analytic"
        if (number - len(first)) % 2 and (choice := nearby.choice(run, found)):
            return choice, "local"
    strategy = run.spec.search
    sampler = "random" if strategy.control == "random" else strategy.sampler
    choice = evolve.propose(
        run.space,
        found,
        lambda one: objectives(run, one),
        sampler=sampler,
        population=strategy.population,
        seed=run.spec.seed,
        allowed=lambda choice: _worth(run, found, choice),
        screened=strategy.screened if run.knowledge else 1,
        worse=lambda choice: _regret(run, choice),
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
        return abs(lost(one, run.reference, sign) - spec.accuracy.loss)

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
    """Returns the analytic choice for budgets less what the model has missed; None if it is known.

    It has missed what the most expensive replicate of the candidate nearest to the budgets costs
    beyond the model.
    """
    budgets, done = run.spec.budget.asked, history.evaluated(found)
    known = [changed(one.choice) for one in found]
    nearest = min(done, key=lambda one: _far({n: one.cost(n) for n in budgets}, budgets))
    predicted = knowledge.costs.of(nearest.choice)
    missed = {n: max(nearest.last.costs[n]) - predicted[n] for n in budgets}
    for margin in MARGINS:
        wanted = {n: margin * budgets[n] - missed[n] for n in budgets}
        try:
            choice = changed(analytic.choose(knowledge, wanted))
        except ValueError:  # below the least
            return None
        if choice and choice not in known:
            return choice
    return None


def _improved(
    run: Search, knowledge: Knowledge, found: Sequence[Candidate], late: int
) -> Choice | None:
    """Returns the analytic choice that the first candidates suggest, or None.

    Args:
      run: of the search.
      knowledge: of its layers.
      found: all candidates.
      late: how many of them came after the first ones.
    """
    budgets, done = run.spec.budget.asked, history.evaluated(found)
    if not done or late >= CORRECTED:
        return None
    if not budgets:
        return _between(run, knowledge, found)
    return _corrected(run, knowledge, found) if late == 0 or not _able(run, done) else None


def _able(run: Search, done: Sequence[Candidate]) -> list[Candidate]:
    """Returns the candidates that have what is asked for."""
    return [o for o in done if keeps(run.spec, o.last, run.reference, run.metric.sign)]


def _between(run: Search, knowledge: Knowledge, found: Sequence[Candidate]) -> Choice | None:
    """Returns the analytic choice halfway between what loses so little and what loses more."""
    name, done = run.spec.accuracy.cost, history.evaluated(found)
    costs = {one.number: knowledge.costs.of(one.choice)[name] for one in done}
    able = [costs[one.number] for one in _able(run, done)]
    high = min(able, default=knowledge.costs.of({})[name])
    low = max((cost for cost in costs.values() if cost < high), default=high)
    known = [changed(one.choice) for one in found]
    try:
        choice = changed(analytic.choose(knowledge, {name: math.sqrt(low * high)}))
    except ValueError:  # below the least
        return None
    return choice if choice and choice not in known else None


def _regret(run: Search, choice: Choice) -> float:
    """Returns how much more a choice loses than the analytic one of its costs, by the model."""
    knowledge = run.knowledge
    if knowledge is None:  # proposals are not screened then
        return 0.0
    costs = knowledge.costs.of(choice)
    try:
        best = analytic.choose(knowledge, {name: costs[name] for name in run.spec.objectives})
    except ValueError:  # rounded costs leave less than the least
        return 0.0
    losses = (max(0.0, knowledge.error(one)) + LEAST_LOSS for one in (choice, best))
    return math.log(next(losses) / next(losses))


def _worth(run: Search, found: Sequence[Candidate], choice: Choice) -> bool:
    """Returns whether the additive costs of a choice are near the budgets, or below the best."""
    budgets = run.spec.budget.asked
    if run.knowledge is None:
        return True
    costs = run.knowledge.costs.of(choice)
    if not budgets:
        name, done = run.spec.accuracy.cost, _able(run, history.evaluated(found))
        best = min((run.knowledge.costs.of(o.choice)[name] for o in done), default=math.inf)
        return best == math.inf or best / WITHIN <= costs[name] <= best
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
