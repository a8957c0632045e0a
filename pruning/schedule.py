"""How many weights are kept at each level: host integers, known before anything is trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from groundwork.errors import UserError, unknown
from pruning import masks

SCHEDULES = ("geometric", "linear")


class Plan(NamedTuple):
    """Which leaves are ranked together, and how many of each group remain at each level."""

    paths: dict[str, tuple[str, ...]]  # group → paths
    sizes: dict[str, int]  # group → weights
    kept: list[dict[str, int]]  # level → group → kept weights; kept[0] == sizes
    rates: dict[str, float]  # group → rate
    schedule: str

    def requested(self, level: int) -> dict[str, float]:
        """Density that the rates ask of each group, before counts are rounded to integers."""
        if self.schedule == "linear":
            return {name: 1 - level * rate for name, rate in self.rates.items()}
        return {name: (1 - rate) ** level for name, rate in self.rates.items()}


def plan(
    shapes: Mapping[str, Any],
    rate: masks.Rate,
    scope: masks.Scope,
    levels: int,
    schedule: str = "geometric",
) -> Plan:
    """Counts of all levels from the shapes of the prunable leaves.

    `geometric`: each level removes `round(rate × kept)` of what remains. `linear`: level k has
    removed `round(k × rate × size)` of the original; one-shot pruning to density d is one level
    at rate 1 − d.

    Raises:
      UserError: the rates do not fit the layers, or a level would stop shrinking or would empty
        a group.
    """
    if schedule not in SCHEDULES:
        raise unknown("prune.schedule", schedule, SCHEDULES)
    try:
        grouped = masks.groups(shapes, rate, scope)
    except ValueError as error:
        raise UserError(f"prune.rate: {error}") from error
    sizes = {name: masks.total({p: shapes[p] for p in g.paths}) for name, g in grouped.items()}
    kept = [dict(sizes)]
    for level in range(1, levels + 1):
        counts = {}
        for name, group in grouped.items():
            before = kept[-1][name]
            if schedule == "linear":
                counts[name] = sizes[name] - round(level * group.rate * sizes[name])
            else:
                counts[name] = before - round(group.rate * before)
            _check(level, name, group.rate, before, counts[name])
        if counts == kept[-1]:
            raise UserError(
                f"level {level} would prune nothing: every prune.rate is 0; set it above 0, "
                "or levels=0 for the dense network alone"
            )
        kept.append(counts)
    paths = {name: group.paths for name, group in grouped.items()}
    rates = {name: group.rate for name, group in grouped.items()}
    return Plan(paths, sizes, kept, rates, schedule)


def _check(level: int, name: str, rate: float, before: int, after: int) -> None:
    """A group with a rate must lose at least one weight and keep at least one."""
    if after < 1:
        raise UserError(
            f"level {level} would empty {name!r} ({before} weights left before it): set "
            f"levels={level - 1} or fewer, or a smaller prune.rate"
        )
    if rate > 0 and after == before:
        raise UserError(
            f"level {level} would stop shrinking {name!r} ({rate:g} of its {before} weights rounds "
            f"to none): set levels={level - 1} or fewer, or a larger prune.rate"
        )
