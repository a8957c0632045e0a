"""What is known around a candidate: sensitivities of the trained network itself. Read `choice`.

What the dense original bears says little about a network that has lost most of its weights and has
been trained since. So a candidate is looked at as the original was: how much does the loss grow if
one layer keeps a little less, or has other bits? What it would gain by keeping more is not
measured, but follows the same curve.
"""

import dataclasses
from collections.abc import Sequence

from compress.search import analytic, history, sensitivity
from compress.search.analytic import Knowledge
from compress.search.asked import keeps
from compress.search.history import Candidate, changed
from compress.search.made import Search
from compress.search.options import Space
from compress.search.sensitivity import Measured, Sensitivities
from compress.search.settings import AS_IT_IS, Choice, Setting

# shares of the budgets that choices around the best candidate are to keep, the first that is new
KEEPING = (1.0, 0.97, 0.94, 0.9)
CHEAPER = (0.93, 0.96, 0.9, 0.98, 0.85, 1.0)  # likewise of its cost, for a loss
ALMOST = 1.1  # times the budgets: what the best candidate may cost
STEPS = 2  # densities away from the candidate's, and bits, that are proposed at most
GROWTH = (1.2, 4.0)  # of what a step costs, from one density to the next: the least and the most
LEAST = 1e-5  # nats, of a step: what is below is noise


def choice(run: Search, found: Sequence[Candidate]) -> Choice | None:
    """Returns the best new choice around the best candidate, by what is known there, or None.

    Where budgets are asked for, the candidate is the most accurate one that keeps them, or almost
    does, and the choice is to keep them. Where a loss is allowed, it is the cheapest one that loses
    so little, and the choice is to cost less.

    Args:
      run: of the search.
      found: all candidates.
    """
    best = _best(run, found)
    knowledge = known(run, best) if best else None
    if best is None or knowledge is None:
        return None
    old = [changed(one.choice) for one in found]
    budgets, predicted = run.spec.budget.asked, knowledge.costs.of(best.choice)
    wanted = budgets or {run.spec.accuracy.cost: best.cost(run.spec.accuracy.cost)}
    missed = {n: max(best.last.costs[n]) / max(predicted[n], 1e-9) for n in wanted}
    for margin in KEEPING if budgets else CHEAPER:
        try:
            aims = {n: margin * most / missed[n] for n, most in wanted.items()}
            near = changed(analytic.choose(knowledge, aims))
        except ValueError:  # below the least
            continue
        if near and near not in old:
            return near
    return None


def _best(run: Search, found: Sequence[Candidate]) -> Candidate | None:
    """Returns the candidate whose neighbours are looked at; see `choice`."""
    spec, sign, done = run.spec, run.metric.sign, history.evaluated(found)
    if not spec.budget.asked:
        cost = spec.accuracy.cost
        able = [one for one in done if keeps(spec, one.last, run.reference, sign)]
        return min(able, key=lambda one: one.cost(cost), default=None)
    near = {n: ALMOST * most for n, most in spec.budget.asked.items()}
    able = [o for o in done if all(max(o.last.costs[n]) <= most for n, most in near.items())]
    return max(able, key=lambda one: sign * one.accuracy, default=None)


def known(run: Search, one: Candidate) -> Knowledge | None:
    """Returns an additive model of the choices around that of a candidate.

    The options of a layer are at most `STEPS` densities, and bits, away from its setting. One step
    fewer of its weights costs a, the next one q a; then k steps cost a (qᵏ − 1) / (q − 1), and k
    steps more, with −k in its place, gain as much as that is below 0.

    Args:
      run: of the search.
      one: a candidate.

    Returns:
      What it is, with the costs of the run's own knowledge; None if the candidate has lost units,
      or has factorised layers or inputs of few bits.
    """
    everything = run.knowledge
    settings = one.choice.values()
    if everything is None or any(s.changes_form or s.activation_bits for s in settings):
        return None
    options = {
        layer: _around(row, one.choice.get(layer, AS_IT_IS))
        for layer, row in everything.space.options.items()
    }
    asked = {
        layer: tuple(dict.fromkeys((*_fewer(row, here), *(Setting(bits=o.bits) for o in row))))
        for layer, row in options.items()
        for here in [one.choice.get(layer, AS_IT_IS)]
    }
    measured = sensitivity.measure(
        run.as_original(one.number), Space(options=asked), run.spec.search.examples
    )
    rows = {
        layer: _row(measured, layer, row, one.choice.get(layer, AS_IT_IS))
        for layer, row in options.items()
    }
    return Knowledge(
        space=Space(options=options),
        sensitivities=Sensitivities(measured.plain, rows, measured.examples),
        costs=dataclasses.replace(everything.costs, space=Space(options=options)),
    )


def _around(row: Sequence[Setting], here: Setting) -> tuple[Setting, ...]:
    """Returns the options of a layer that are near to its setting."""
    plain = [o for o in row if not (o.changes_form or o.activation_bits)]
    densities = sorted({o.density for o in plain}, reverse=True)
    bits = sorted({o.bits for o in plain} - {0}) or [0]
    place = densities.index(here.density)
    level = bits.index(here.bits) if here.bits in bits else len(bits) - 1
    near = {here.bits, *bits[max(0, level - STEPS) : level + STEPS + 1]}
    return tuple(
        option
        for option in plain
        if abs(densities.index(option.density) - place) <= STEPS and option.bits in near
    )


def _fewer(row: Sequence[Setting], here: Setting) -> list[Setting]:
    """Returns the next two densities below that of a layer."""
    below = sorted({o.density for o in row if o.density < here.density}, reverse=True)
    return [Setting(density=density) for density in below[:2]]


def _row(
    measured: Sensitivities, layer: str, row: Sequence[Setting], here: Setting
) -> dict[Setting, Measured]:
    """Returns setting → by how much the candidate's loss grows; the metric is not told."""
    densities = sorted({o.density for o in row}, reverse=True)
    lost = [max(LEAST, measured.of(layer, one).loss) for one in _fewer(row, here)]
    first, growth = (lost or [LEAST])[0], GROWTH[1]
    if len(lost) > 1:
        growth = min(max(lost[1] / first - 1, GROWTH[0]), GROWTH[1])
    place = densities.index(here.density)

    def of(option: Setting) -> float:
        steps = densities.index(option.density) - place
        rounding = measured.of(layer, Setting(bits=option.bits)).loss
        return first * (growth**steps - 1) / (growth - 1) + max(0.0, rounding)

    return {option: Measured(of(option), 0.0) for option in row}
