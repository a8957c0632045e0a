"""One evaluation: a choice is proposed, its network is trained step by step, and judged."""

# R replicates

import time
from collections.abc import Sequence

import numpy as np

from compress import work as networks_lib
from compress.made import Made
from compress.search import candidate, costs, history, proposals
from compress.search.candidate import State
from compress.search.history import ORIGINAL, Candidate, Judged
from compress.search.made import Search
from compress.search.proposals import Offer
from compress.search.settings import Choice
from groundwork import trees
from groundwork.devices import processes
from groundwork.errors import UserError, reason
from groundwork.train import networks
from groundwork.trees import Variables

# Of an evaluation: it is reported, and the search goes on. A full disk (OSError) ends it.
FAILURES = (UserError, ValueError, ArithmeticError, RuntimeError)


def evaluate(run: Search, number: int, found: Sequence[Candidate], offer: Offer | None) -> None:
    """Makes the unit of a candidate: its weights, for those that continue it, and its results.

    Args:
      run: of the search.
      number: of the candidate.
      found: the candidates before its round.
      offer: its choice; None if there is no time left for it.
    """
    reporter = run.context.reporter
    reporter.begin(history.name_of(number), 0, 1)
    begun = time.perf_counter()
    made: State | None = None
    choice: Choice = {}
    origin, parent, failed = "", ORIGINAL, ""
    judged: list[Judged] = []
    if offer is None:
        failed = f"search.seconds={run.spec.search.seconds:g} are over"
    else:
        choice, origin = offer
        parent, same = parent_of(run, found, choice)
        try:
            before = run.state(parent)
            made = before if same else _reshaped(run, choice, before)
            made, judged = _trained(run, number, choice, made, found)
        except FAILURES as error:
            failed = reason(error)
            judged = []
    one = Candidate(
        number=number,
        choice=choice,
        origin=origin,
        parent=parent,
        step=made.step if made else 0,
        judged=tuple(judged),
        failed=failed,
        seconds=processes.on_first(lambda: time.perf_counter() - begun),
    )
    _finish(run, one, made)


def parent_of(run: Search, found: Sequence[Candidate], choice: Choice) -> tuple[int, bool]:
    """Returns the number of the candidate that a choice continues, and whether shapes stay."""
    if not run.spec.given:
        return history.parent(found, choice)
    before = found[-1].choice if found else {}
    return len(found) - 1, history.same_shapes(before, choice)


def judge(run: Search, name: str, made: Made, rounds: int) -> Judged:
    """Writes the files of a network; returns what they give back on validation, and cost.

    Args:
      run: of the search.
      name: of the folder of the files.
      made: with stored forms.
      rounds: of its training.
    """
    context = run.context
    variables, written = networks_lib.filed(context, name, made)
    compiled = run.bench.pipeline.compiled(candidate.recipe(run.bench, made, run.steps)).programs
    measured = networks.evaluated(context, compiled, context.put(variables), ("validation",))
    return Judged(
        rounds=rounds,
        validation=measured["validation"][compiled.metric.name],
        costs=processes.on_first(_costs, run, made, variables, written["bytes"]),
        bytes=written["bytes"],
    )


def words(run: Search, judged: Judged) -> str:
    """Returns what a network costs, and how good it is, for the log."""
    numbers = [f"{np.mean(judged.costs[n]):,.6g} {n}" for n in run.spec.objectives]
    value = f"validation {run.metric.words} {np.mean(judged.validation):.4f}"
    return f"{', '.join(numbers)}; {value} after {judged.rounds} rounds"


def _reshaped(run: Search, choice: Choice, before: State) -> State:
    return before._replace(made=candidate.shaped(run.bench, choice, before.made))


def _trained(
    run: Search, number: int, choice: Choice, state: State, found: Sequence[Candidate]
) -> tuple[State, list[Judged]]:
    """Returns a candidate after its last round, and what it was after each rung."""
    spec, name = run.spec.search, history.name_of(number)
    first, rungs = spec.rungs[0], spec.rungs
    if run.spec.given:
        rungs = (run.spec.given.steps[number].rounds,)
    rounds, judged = 0, []
    for rung in rungs:
        while rounds < rung:
            share = 1 / max(1, first - rounds)  # of the way that is left
            made = candidate.pruned(state.made, choice, share)
            rounds += 1
            state = candidate.tuned(
                run.bench, f"{name}/round-{rounds}", state._replace(made=made), run.steps
            )
        coded = candidate.coded(run.bench, f"{name}/codes-{rounds}", state, choice, run.steps)
        judged.append(judge(run, name, coded, rounds))
        run.context.reporter.say(f"{name}  {words(run, judged[-1])}", aloud=False)
        if not proposals.goes_on(run, found, judged[-1]):
            break
    return state, judged


def _finish(run: Search, one: Candidate, made: State | None) -> None:
    """Saves the unit of a candidate; one that failed has no network."""
    unit = run.context.run.unit(one.name)
    if one.failed or made is None:
        unit.finish({"failed": np.asarray(True)}, one.to_json())
        run.context.reporter.end(f"not evaluated: {one.failed}")
        return
    tree = {"variables": made.made.variables, "mask": made.made.mask}
    about = {**networks_lib.described(made.made), "bytes": one.last.bytes}
    unit.finish(tree, {**about, **one.to_json()})
    run.context.reporter.end(
        f"{one.origin}, from {history.name_of(one.parent)}: {words(run, one.last)}"
    )


def _costs(
    run: Search, made: Made, variables: Variables, sizes: Sequence[int]
) -> dict[str, list[float]]:
    """Returns name → [R], of what the files give back; milliseconds are those of replicate 0."""
    context, each = run.context, []
    for r, size in enumerate(sizes):
        one, mask = trees.replicate((variables, dict(made.mask)), r)
        form = made.form._replace(model=networks_lib.of_replicate(made.form.model, r))
        clock = run.clock if r == 0 else None  # all replicates have the same shapes
        names = [n for n in costs.COSTS if n != "bytes" and (clock or n != "milliseconds")]
        found = costs.whole(
            form, one, context.dataset.example, names, mask=mask, bits=made.bits, clock=clock
        )
        each.append({"bytes": size, **found})
    return {name: [float(one.get(name, value)) for one in each] for name, value in each[0].items()}
