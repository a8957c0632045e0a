"""Which candidates are trained for longer, and which is chosen. Test examples count here alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compress import work as networks_lib
from compress.made import Made, Node
from compress.search import candidate, history, trial
from compress.search.asked import keeps, lost
from compress.search.history import Candidate, Judged
from compress.search.made import Search
from compress.search.spec import SearchSpec, chosen_unit
from groundwork.errors import UserError

NEAR = 0.02  # more than the loss that is allowed: what longer training may make up for


class Entrant(NamedTuple):
    """A network that may be chosen."""

    candidate: Candidate
    judged: Judged
    longer: Made | None  # the network, if it was trained for longer than the candidate


def make(run: Search, found: Sequence[Candidate]) -> None:
    """Makes the unit of the chosen network, and its files in `files/chosen`.

    The finalists are trained for as long as `fine_tune` says, and the best of what they were and
    what they have become is chosen.

    Raises:
      UserError: no candidate has what is asked for, or none could be evaluated.
    """
    spec, reporter, sign = run.spec, run.context.reporter, run.metric.sign
    reporter.begin(chosen_unit(spec), 0, 1)
    last = finalists(spec, found, run.reference, sign)
    entrants = [Entrant(one, one.last, None) for one in last]
    if spec.compress.fine_tune.steps and (spec.given is None or spec.given.longer):
        longer = [_longer(run, one) for one in last]
        entrants = longer if spec.given else [*entrants, *longer]
    best = choose(spec, entrants, run.reference, sign)
    if best is None:
        raise UserError(_nearest(spec, history.evaluated(found), run.reference, sign))
    one = best.candidate
    made = best.longer or candidate.coded(
        run.bench,
        f"{chosen_unit(spec)}/again",
        run.state(one.number),
        one.choice,
        run.steps,
    )
    node = Node("chosen", one.name, "search", 0, True)
    about = {"candidate": one.number, "longer": best.longer is not None}
    networks_lib.finish(run.bench.pipeline, node, made, chosen_unit(spec), about)


def finalists(
    spec: SearchSpec, found: Sequence[Candidate], reference: float, sign: float = 1
) -> list[Candidate]:
    """Returns the candidates that are worth longer training, at most `search.finalists`.

    They are the most accurate ones within the budgets; where a loss is allowed, the cheapest that
    loses so little, and cheaper ones that lose at most `NEAR` more, the most accurate first. Where
    networks are made again, it is the last one.

    Args:
      spec: of the search.
      found: all candidates.
      reference: the original's mean.
      sign: of the metric.

    Raises:
      UserError: there is none; the error says what comes nearest.
    """
    done = history.evaluated(found)
    if not done:
        failed = [one.failed for one in found if one.failed]
        raise UserError(f"no candidate could be evaluated: {failed[0] if failed else 'none'}")
    if spec.given:
        return done[-1:]
    able = [one for one in done if keeps(spec, one.last, reference, sign)]
    able.sort(key=lambda one: _order(spec, one.last, sign))
    if not spec.budget.asked:
        cost, most = spec.accuracy.cost, spec.accuracy.loss + NEAR
        near = [one for one in done if one not in able and lost(one.last, reference, sign) <= most]
        near = [one for one in near if not able or one.cost(cost) < able[0].cost(cost)]
        able = [*able[:1], *sorted(near, key=lambda one: (-sign * one.accuracy, one.number))]
    if not able:
        raise UserError(_nearest(spec, done, reference, sign))
    return able[: spec.search.finalists]


def choose(
    spec: SearchSpec, entrants: Sequence[Entrant], reference: float, sign: float = 1
) -> Entrant | None:
    """Returns the most accurate network within the budgets, or the cheapest that loses so little.

    Each replicate keeps the budgets; accuracies are means on validation, and so are costs where the
    least is looked for. The result is None if no network has what is asked for.
    """
    able = [o for o in entrants if spec.given or keeps(spec, o.judged, reference, sign)]
    return min(able, key=lambda o: _order(spec, o.judged, sign), default=None)


def _longer(run: Search, one: Candidate) -> Entrant:
    """Returns a candidate after longer training, whose files are those of `chosen` meanwhile."""
    unit, steps = f"{chosen_unit(run.spec)}/{one.number:04d}", run.spec.compress.fine_tune
    tuned = candidate.tuned(run.bench, f"{unit}-round", run.state(one.number), steps)
    made = candidate.coded(run.bench, f"{unit}-codes", tuned, one.choice, steps)
    judged = trial.judge(run, "chosen", made, one.last.rounds)
    run.context.reporter.say(f"{one.name} after more training: {trial.words(run, judged)}")
    return Entrant(one, judged, made)


def _order(spec: SearchSpec, one: Judged, sign: float) -> tuple[float, float]:
    value = -sign * float(np.mean(one.validation))
    cost = float(np.mean(one.costs[spec.objectives[0]]))
    return (value, cost) if spec.budget.asked else (cost, value)


def _nearest(spec: SearchSpec, done: Sequence[Candidate], reference: float, sign: float) -> str:
    """Returns what is wrong if no candidate has what is asked for."""
    if not spec.budget.asked:
        best = max(done, key=lambda one: sign * one.accuracy)
        return (
            f"accuracy.loss={spec.accuracy.loss:g}: no candidate loses so little on validation; "
            f"{best.name} loses {lost(best.last, reference, sign):.4f}: allow more, or more "
            "evaluations"
        )
    parts = []
    for name, most in spec.budget.asked.items():
        least = min(done, key=lambda one: max(one.last.costs[name]))
        value = max(least.last.costs[name])
        parts.append(f"budget.{name}={most:g} (the least is {value:,.6g} of {least.name})")
    return f"no candidate keeps {' and '.join(parts)}: allow more, or more evaluations"
