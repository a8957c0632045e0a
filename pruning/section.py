"""The part of a `prune` section that all commands share, and its plan for a network."""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from groundwork.errors import UserError, unknown
from groundwork.sections import at_least
from groundwork.trees import Params, Shapes
from pruning import masks, schedule
from pruning.criteria import CRITERIA
from pruning.schedule import SCHEDULES, Plan
from pruning.select import Rate, Scope


class Scored:
    """What sections that choose single weights have in common."""

    criterion: str
    prunable: tuple[str, ...]
    examples: int

    @property
    def seen(self) -> int:
        """The number of training examples that the criterion looks at; 0 if it looks at none."""
        own = CRITERIA[self.criterion].examples
        return own and (self.examples or own)

    def is_prunable(self, path: str) -> bool:
        """Returns whether a pattern of `prunable` matches."""
        return any(fnmatchcase(path, pattern) for pattern in self.prunable)

    def leaves(self, params: Params) -> dict[str, Any]:
        """Returns path → leaf of all leaves that may be pruned.

        Raises:
          UserError: there are none.
        """
        leaves = masks.flatten(params, self.is_prunable)
        if not leaves:
            paths = ", ".join(masks.flatten(params, lambda path: True))
            raise UserError(f"prune.prunable={self.prunable} matches none of {paths}")
        return leaves


@dataclasses.dataclass(frozen=True)
class PruneSpec(Scored):
    """`prune`: which weights each level removes; see `select.prune` and `schedule.plan`.

    `prunable` has patterns (fnmatch) for the paths of the leaves that may be pruned. `examples` is
    the number of training examples that the criterion looks at; 0 = its own number.
    """

    rate: Annotated[Rate, "a number in [0, 1), a share of 1, or patterns with such numbers"]
    scope: Scope
    criterion: str
    schedule: str
    prunable: Annotated[tuple[str, ...], "texts, such as ('*kernel',)"]
    examples: int = dataclasses.field(default=0, kw_only=True)  # older configs lack it

    def __post_init__(self) -> None:
        at_least("prune", self, examples=0)
        for key, known in (("criterion", CRITERIA), ("schedule", SCHEDULES)):
            if getattr(self, key) not in known:
                raise unknown(f"prune.{key}", getattr(self, key), known)
        rates = self.rate if isinstance(self.rate, Mapping) else {"": self.rate}
        for pattern, rate in rates.items():
            if not 0 <= rate < 1:
                of = f" of {pattern!r}" if pattern else ""
                raise UserError(f"prune.rate={rate}{of} must be a number in [0, 1), a share of 1")

    def plan(
        self,
        leaves: Mapping[str, Shapes],
        levels: int,
        key: str,
        instead: str,
        stacked: Mapping[str, int] | None = None,
    ) -> Plan:
        """Returns the counts of all levels; see `schedule.plan`.

        Args:
          leaves: the leaves that may be pruned, arrays or shapes.
          levels: the last level.
          key: the config's setting for fewer levels, such as `levels=`.
          instead: for an error, what to set if nothing is to be pruned.
          stacked: see `select.prune`.

        Raises:
          UserError: a level cannot be reached, or the rates do not fit the layers.
        """
        try:
            return schedule.plan(leaves, self.rate, self.scope, levels, self.schedule, stacked)
        except schedule.UnreachableError as error:
            remedy = f"set {key}{error.levels} or fewer, or a {error.rate} prune.rate"
            raise UserError(f"{error}: {remedy}") from error
        except schedule.NothingToPruneError as error:
            raise UserError(f"{error}; set prune.rate above 0, or {instead}") from error
        except ValueError as error:
            raise UserError(f"prune.rate: {error}") from error
