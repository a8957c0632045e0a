"""Which candidate is chosen, and its longer fine-tuning. Test examples are looked at here alone."""

from collections.abc import Sequence

import numpy as np

from compress import work as networks_lib
from compress.made import Made, Node
from compress.search import candidate, history, trial
from compress.search.history import Candidate, Judged
from compress.search.made import Search
from compress.search.spec import SearchSpec, chosen_unit
from groundwork.errors import UserError


def make(run: Search, found: Sequence[Candidate]) -> None:
    """Makes the unit of the chosen network, and its files in `files/chosen`.

    The best candidate is trained for as long as `fine_tune` says. If that breaks what is asked for,
    or is worse on validation, the candidate stays as it was.

    Raises:
      UserError: no candidate has what is asked for, or none could be evaluated.
    """
    spec, reporter = run.spec, run.context.reporter
    reporter.begin(chosen_unit(spec), 0, 1)
    best = chosen(spec, found, run.reference, run.metric.sign)
    made, longer = _tuned(run, best)
    node = Node("chosen", best.name, "search", 0, True)
    about = {"candidate": best.number, "longer": longer}
    networks_lib.finish(run.bench.pipeline, node, made, chosen_unit(spec), about)


def chosen(
    spec: SearchSpec, found: Sequence[Candidate], reference: float, sign: float = 1
) -> Candidate:
    """Returns the most accurate candidate within the budgets, or the cheapest that loses so little.

    Each replicate keeps the budgets; accuracies are means on validation, and so are costs where the
    least is looked for. Where networks are to be made again, the last one is returned.

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
        return done[-1]
    able = [one for one in done if keeps(spec, one.last, reference, sign)]
    if not able:
        raise UserError(_nearest(spec, done, reference, sign))
    if spec.budget.asked:
        first = next(iter(spec.budget.asked))
        return min(able, key=lambda one: (-sign * one.accuracy, one.cost(first), one.number))
    cost = spec.accuracy.cost
    return min(able, key=lambda one: (one.cost(cost), -sign * one.accuracy, one.number))


def keeps(spec: SearchSpec, one: Judged, reference: float, sign: float = 1) -> bool:
    """Returns whether a network has what is asked for: the budgets, or the accuracy."""
    if spec.budget.asked:
        return all(max(one.costs[name]) <= most for name, most in spec.budget.asked.items())
    lost = sign * (reference - float(np.mean(one.validation)))
    return lost <= spec.accuracy.loss + 1e-9  # sums of floats are not exact


def _tuned(run: Search, best: Candidate) -> tuple[Made, bool]:
    """Returns the best candidate, and whether it is the one that was trained for longer."""
    bench, spec, unit = run.bench, run.spec, chosen_unit(run.spec)
    state, steps = trial.state_of(run, best.number), spec.compress.fine_tune
    if steps.steps and (spec.given is None or spec.given.longer):
        tuned = candidate.tuned(bench, f"{unit}/round", state, steps)
        made = candidate.coded(bench, f"{unit}/codes", tuned, best.choice, steps)
        if spec.given or _better(run, trial.judge(run, "chosen", made, 0), best):
            return made, True
        run.context.reporter.say(f"fine_tune makes {best.name} no better: it stays as it was")
    return candidate.coded(bench, f"{unit}/again", state, best.choice, run.steps), False


def _better(run: Search, new: Judged, best: Candidate) -> bool:
    """Returns whether a network that was trained for longer takes the place of a candidate."""
    spec, sign = run.spec, run.metric.sign
    if not keeps(spec, new, run.reference, sign):
        return False
    if spec.budget.asked:
        return sign * float(np.mean(new.validation)) >= sign * best.accuracy
    return float(np.mean(new.costs[spec.accuracy.cost])) <= best.cost(spec.accuracy.cost)


def _nearest(spec: SearchSpec, done: Sequence[Candidate], reference: float, sign: float) -> str:
    """Returns what is wrong if no candidate has what is asked for."""
    if not spec.budget.asked:
        best = max(done, key=lambda one: sign * one.accuracy)
        lost = sign * (reference - best.accuracy)
        return (
            f"accuracy.loss={spec.accuracy.loss:g}: no candidate loses so little on validation; "
            f"{best.name} loses {lost:.4f}: allow more, or more evaluations"
        )
    parts = []
    for name, most in spec.budget.asked.items():
        least = min(done, key=lambda one: max(one.last.costs[name]))
        parts.append(
            f"budget.{name}={most:g} (the least is {max(least.last.costs[name]):,.6g} of "
            f"{least.name})"
        )
    return f"no candidate keeps {' and '.join(parts)}: allow more, or more evaluations"
