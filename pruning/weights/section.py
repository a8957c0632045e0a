"""The section `prune` of a run over single weights, as a dataclass that checks itself."""

import dataclasses
from typing import Annotated, Literal, NamedTuple

from groundwork.errors import UserError, unknown
from groundwork.sections import at_least
from pruning import patterns
from pruning.criteria import CRITERIA
from pruning.section import Scored
from pruning.weights.methods import METHODS, Method

Density = Annotated[float | tuple[float, ...], "a number in (0, 1], or several of them"]
Strength = Annotated[float | tuple[float, ...], "a number above 0, or several of them"]


class Point(NamedTuple):
    """One sparse network of the run."""

    density: float | None  # that is asked for; None: what the training or a search leaves
    strength: float | None  # of the methods that shrink weights
    label: str  # "0.1", "2:4" or "target"; of methods that shrink weights the strength, "0.0001"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsPruneSpec(Scored):
    """`prune`: how single weights go. `configs/pruning/weights.py` says what each key means."""

    method: str
    density: Density
    criterion: str
    scope: Literal["layerwise", "erdos_renyi", "erdos_renyi_kernel", "global"]
    pattern: str
    prunable: Annotated[tuple[str, ...], "texts, such as ('*kernel',)"]
    iterations: int
    correct: bool
    begin: float
    end: float
    every: int
    drop: float
    strength: Strength
    threshold: float
    examples: int
    keep_accuracy: float
    least_accuracy: float
    least_density: float

    def __post_init__(self) -> None:
        for key, known in (("method", METHODS), ("criterion", CRITERIA)):
            if getattr(self, key) not in known:
                raise unknown(f"prune.{key}", getattr(self, key), known)
        at_least("prune", self, iterations=1, every=1, examples=0)
        self._check_numbers()
        self._check_method()
        if self.searches:
            self._check_search()
        labels = [point.label for point in self.points]
        if len(set(labels)) < len(labels):
            key = "strength" if "strength" in self.how.keys else "density"
            raise UserError(f"prune.{key}={getattr(self, key)} has numbers alike in six digits")

    def _check_numbers(self) -> None:
        for key, chosen, most in (
            ("density", self.densities, 1.0),
            ("strength", self.strengths, 0),
        ):
            if not chosen:
                raise UserError(f"prune.{key}=() is empty: give a number")
            for one in chosen:
                if not one > 0 or (most and one > most):
                    bounds = "in (0, 1]" if most else "above 0"
                    raise UserError(f"prune.{key}={getattr(self, key)}: {one} must be {bounds}")
        if not 0 <= self.begin <= self.end <= 1:
            raise UserError(
                f"prune.begin={self.begin} and prune.end={self.end} must be shares of the training,"
                " in [0, 1] and in this order"
            )
        for key, high in (("keep_accuracy", 1), ("least_accuracy", 1), ("drop", 1)):
            if not 0 <= getattr(self, key) < high:
                raise UserError(f"prune.{key}={getattr(self, key)} must be in [0, 1)")
        if not self.threshold > 0:
            raise UserError(f"prune.threshold={self.threshold} must be above 0")
        if not 0 < self.least_density < 1:
            raise UserError(f"prune.least_density={self.least_density} must be in (0, 1)")

    def _check_method(self) -> None:
        criterion, how = CRITERIA[self.criterion], self.how
        if how.first == "random" and self.scope == "global":
            raise UserError(
                f"prune.scope=global ranks layers together, but prune.method={self.method} begins "
                "with random weights: choose layerwise, erdos_renyi or erdos_renyi_kernel"
            )
        if self.method in ("rigl", "set") and self.every < 2:
            raise UserError(
                f"prune.every={self.every} must be at least 2 for prune.method={self.method}: a "
                "change of masks takes the place of a step, and others must be left"
            )
        if self.method == "before_training" and (
            lacking := {"initial", "movement"} & set(criterion.needs)
        ):
            raise UserError(
                f"prune.criterion={self.criterion} looks at what training changed "
                f"({', '.join(sorted(lacking))}): with prune.method=before_training, choose another"
            )
        if self.correct and not (how.fine_tunes and criterion.correct):
            able = [name for name, one in CRITERIA.items() if one.correct]
            raise UserError(
                "prune.correct=true needs prune.method=one_shot or iterative and prune.criterion="
                f"{' or '.join(able)}"
            )
        if self.pattern != "none":
            try:
                patterns.parse(self.pattern)
            except ValueError as error:
                raise UserError(f"prune.pattern: {error}") from error
            if how.first != "criterion" or self.method == "iterative":
                raise UserError(
                    f"prune.pattern={self.pattern} needs prune.method=one_shot or before_training"
                )
            if criterion.rounds > 1:
                raise UserError(
                    f"prune.pattern={self.pattern} takes one round of scores, but "
                    f"prune.criterion={self.criterion} has {criterion.rounds}: choose another"
                )

    def _check_search(self) -> None:
        if self.keep_accuracy and self.least_accuracy:
            raise UserError(
                "prune.keep_accuracy and prune.least_accuracy are both set: leave one at 0"
            )
        if self.method not in ("one_shot", "iterative"):
            raise UserError(
                "prune.keep_accuracy and prune.least_accuracy need prune.method=one_shot or "
                "iterative"
            )
        if self.pattern != "none":
            raise UserError("prune.keep_accuracy and prune.least_accuracy need prune.pattern=none")

    @property
    def how(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def densities(self) -> tuple[float, ...]:
        """The densities of the config."""
        return self.density if isinstance(self.density, tuple) else (self.density,)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths of the config."""
        return self.strength if isinstance(self.strength, tuple) else (self.strength,)

    @property
    def searches(self) -> bool:
        """Whether a target of the accuracy decides how many weights go."""
        return self.keep_accuracy > 0 or self.least_accuracy > 0

    @property
    def points(self) -> list[Point]:
        """The sparse networks of a run, the densest first."""
        if self.searches:
            return [Point(None, None, "target")]
        if "strength" in self.how.keys:
            return [Point(None, s, f"{s:g}") for s in sorted(set(self.strengths))]
        if self.pattern != "none" and isinstance(form := patterns.parse(self.pattern), patterns.NM):
            return [Point(form.n / form.m, None, str(form))]
        return [Point(d, None, f"{d:g}") for d in sorted(set(self.densities), reverse=True)]
