"""What the candidates so far have come to: the front, who goes on, and whom a new one continues.

Everything here is a function of finished units, so a run that was killed decides as it would have.
"""

# R replicates

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.search import settings
from compress.search.settings import Choice, Setting

ORIGINAL = -1  # the number of the original among candidates
OF_SHAPES = ("units", "rank", "method")  # fields of a setting that change shapes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate after some rounds of training.

    Attributes:
      rounds: of training.
      validation: [R], accuracy or the run's other metric, of what the files give back.
      costs: name → [R].
      bytes: [R], of the files.
    """

    rounds: int
    validation: list[float]
    costs: dict[str, list[float]]
    bytes: list[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finished evaluation.

    Attributes:
      number: from 0.
      choice: what is done to each layer.
      origin: who proposed it: `analytic`, `uniform`, `local`, `given`, or a sampler's name.
      parent: the number of the candidate whose weights it began with, or `ORIGINAL`.
      step: of training, at its end.
      judged: after each rung; none if it failed.
      failed: why there are no results; "" if there are.
      seconds: that it took.
    """

    number: int
    choice: Choice
    origin: str
    parent: int
    step: int
    judged: tuple[Judged, ...]
    failed: str
    seconds: float

    @property
    def name(self) -> str:
        """The name of its unit, and of its folder among the files."""
        return name_of(self.number)

    @property
    def last(self) -> Judged:
        """What it is after its last rung."""
        return self.judged[-1]

    @property
    def accuracy(self) -> float:
        """The mean on validation."""
        return float(np.mean(self.last.validation))

    def cost(self, name: str) -> float:
        """Returns a cost, the mean over replicates."""
        return float(np.mean(self.last.costs[name]))

    def to_json(self) -> dict[str, Any]:
        """Returns it for the metadata of its unit."""
        return {**dataclasses.asdict(self), "choice": settings.to_json(self.choice)}


def from_json(found: Mapping[str, Any]) -> Candidate:
    """Returns what `Candidate.to_json` gave."""
    names = [field.name for field in dataclasses.fields(Candidate)]
    judged = tuple(Judged(**one) for one in found["judged"])
    choice = settings.from_json(found["choice"])
    return Candidate(**{**{n: found[n] for n in names}, "judged": judged, "choice": choice})


def waiting(number: int, choice: Choice, origin: str) -> Candidate:
    """Returns a candidate whose results are not known yet."""
    return Candidate(
        number=number,
        choice=choice,
        origin=origin,
        parent=ORIGINAL,
        step=0,
        judged=(),
        failed="not evaluated yet",
        seconds=0.0,
    )


def seconds(history: Sequence[Candidate], parallel: int) -> float:
    """Returns how long the candidates took, so many at a time: the sum of each round's longest."""
    longest: dict[int, float] = {}
    for one in history:
        place = one.number // parallel
        longest[place] = max(longest.get(place, 0.0), one.seconds)
    return sum(longest.values())


def changed(choice: Choice) -> dict[str, Setting]:
    """Returns a choice without the layers that it leaves as they are."""
    return {layer: one for layer, one in sorted(choice.items()) if one != Setting()}


def name_of(number: int) -> str:
    """Returns `candidates/0007`; that of the original is `original`."""
    return "original" if number == ORIGINAL else f"candidates/{number:04d}"


def evaluated(history: Sequence[Candidate]) -> list[Candidate]:
    """Returns the candidates that have results."""
    return [one for one in history if one.judged]


def fronts(points: np.ndarray) -> np.ndarray:
    """Returns the number of the front of each point: 0 = no other beats it, and so on.

    Args:
      points: [N, objectives], lower is better. A point beats another that is no better in any
        objective, and worse in one.

    Source: Deb et al., IEEE Trans. Evol. Comp. 6 (2002), Section III.A.
    """
    no_worse = np.all(points[:, None] <= points[None], axis=2)
    beats = no_worse & np.any(points[:, None] < points[None], axis=2)
    rank = np.full(len(points), -1)
    for front in range(len(points)):
        left = rank < 0
        rank[left & ~np.any(beats & left[:, None], axis=0)] = front
        if not np.any(rank < 0):
            break
    return rank


def front(history: Sequence[Candidate], names: Sequence[str], sign: float = 1) -> list[Candidate]:
    """Returns the candidates that no other beats in accuracy and these costs, by rising cost.

    Args:
      history: of a run.
      names: of costs.
      sign: of the metric: 1 if more of it is better, −1 otherwise.
    """
    done = evaluated(history)
    if not done:
        return []
    rank = fronts(np.array([_of(one.last, names, sign) for one in done]))
    best = [one for one, place in zip(done, rank, strict=True) if place == 0]
    return sorted(best, key=lambda one: (one.cost(names[0]), -sign * one.accuracy, one.number))


def goes_on(
    history: Sequence[Candidate],
    new: Judged,
    names: Sequence[str],
    share: float,
    far: Callable[[Judged], float],
    sign: float = 1,
) -> bool:
    """Returns whether a candidate is among the best so far that were judged after as many rounds.

    It is successive halving for candidates that come one after the other: of the n that have
    reached a rung, the best round(share × n) go on, at least one: by the numbers of their fronts
    and, within a front, those that are nearest to what is asked for.

    Args:
      history: the candidates before.
      new: what the candidate is now.
      names: of costs.
      share: in (0, 1].
      far: how far a candidate is from what is asked for.
      sign: see `front`.

    Source: Li et al., arXiv:1810.05934, Algorithm 2. Departs: a front takes the place of a loss,
    and who did not go on at once never does.
    """
    there = [one for c in history for one in c.judged if one.rounds == new.rounds]
    rank = fronts(np.array([_of(one, names, sign) for one in [*there, new]]))
    places = [(int(n), far(one)) for n, one in zip(rank, [*there, new], strict=True)]
    better = sum(place < places[-1] for place in places[:-1])
    return better < max(1, round(share * len(places)))


def parent(history: Sequence[Candidate], choice: Choice) -> tuple[int, bool]:
    """Returns the candidate whose weights a choice continues, and whether it has its shapes.

    It is the nearest of those that keep at least as much of every layer, and have either the same
    units and ranks or those of the original. The distance is the sum over layers of
    |log₂ of the ratio of densities|; among equals, the later one. The original is always possible.

    Args:
      history: the candidates before.
      choice: of the new one.
    """
    found = [(_distance({}, choice), 1, ORIGINAL, not _shape(choice))]
    for one in evaluated(history):
        same = same_shapes(one.choice, choice)
        if (same or not _shape(one.choice)) and _keeps(one.choice, choice):
            found.append((_distance(one.choice, choice), -one.number, one.number, same))
    best = min(found, key=lambda one: (not one[3], one[0], one[1]))
    return best[2], best[3]


def same_shapes(one: Choice, other: Choice) -> bool:
    """Returns whether two choices have the same units, ranks and methods in all layers."""
    return _shape(one) == _shape(other)


def lineage(history: Sequence[Candidate], number: int) -> list[Candidate]:
    """Returns the candidates that lead from the original to one of them, the oldest first."""
    by_number = {one.number: one for one in history}
    found: list[Candidate] = []
    while number != ORIGINAL:
        found.insert(0, by_number[number])
        number = found[0].parent
    return found


def _of(judged: Judged, names: Sequence[str], sign: float) -> tuple[float, ...]:
    """Returns what is minimised: the metric, with its sign turned, and the mean costs."""
    costs = (float(np.mean(judged.costs[name])) for name in names)
    return -sign * float(np.mean(judged.validation)), *costs


def _shape(choice: Choice) -> dict[str, tuple[Any, ...]]:
    """Returns layer → what a choice does to its shapes, of the layers that it changes so."""
    usual = tuple(getattr(Setting(), name) for name in OF_SHAPES)
    found = {layer: tuple(getattr(one, n) for n in OF_SHAPES) for layer, one in choice.items()}
    return {layer: one for layer, one in found.items() if one != usual}


def _keeps(before: Choice, after: Choice) -> bool:
    """Returns whether nothing that a network has lost is asked of the next."""
    layers = before.keys() | after.keys()
    return all(_density(before, layer) >= _density(after, layer) for layer in layers)


def _distance(before: Choice, after: Choice) -> float:
    layers = before.keys() | after.keys()
    return sum(abs(math.log2(_density(before, x) / _density(after, x))) for x in sorted(layers))


def _density(choice: Choice, layer: str) -> float:
    return choice[layer].density if layer in choice else 1.0
