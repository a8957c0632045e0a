"""How many weights each level keeps: host integers, which are known before any training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pruning import masks, select

SCHEDULES = ("geometric", "linear")


class UnreachableError(ValueError):
    """A level cannot be reached by pruning.

    Attributes:
      levels: the number of levels that can be.
      rate: the rate that would help, a `smaller` or a `larger` one.
    """

    def __init__(self, message: str, levels: int, rate: str) -> None:
        super().__init__(message)
        self.levels, self.rate = levels, rate


class NothingToPruneError(ValueError):
    """All rates are 0."""


class Plan(NamedTuple):
    """Which leaves are ranked together, and how many weights each group keeps at each level."""

    paths: dict[str, tuple[str, ...]]  # group → paths
    sizes: dict[str, int]  # group → its number of weights
    kept: list[dict[str, int]]  # level → group → kept weights; kept[0] == sizes
    rates: dict[str, float]  # group → rate
    schedule: str
    slices: dict[str, int]  # group → how many slices of it are ranked by themselves

    def of_slices(self, level: int) -> dict[str, int]:
        """Returns how many weights each slice of a group keeps at a level."""
        return {name: count // self.slices[name] for name, count in self.kept[level].items()}

    def requested(self, level: int) -> dict[str, float]:
        """Returns the density of each group by the rates alone, before counts are rounded."""
        if self.schedule == "linear":
            return {name: 1 - level * rate for name, rate in self.rates.items()}
        return {name: (1 - rate) ** level for name, rate in self.rates.items()}


def plan(
    shapes: Mapping[str, Any],
    rate: select.Rate,
    scope: select.Scope,
    levels: int,
    schedule: str = "geometric",
    stacked: Mapping[str, int] | None = None,
) -> Plan:
    """Returns the counts of all levels, from the shapes of the prunable leaves.

    With `geometric`, each level removes `round(rate × kept)` of the weights that remain. With
    `linear`, level k has removed `round(k × rate × size)` of the original ones, so one-shot pruning
    to density d is one level at rate 1 − d. Slices of a stack are counted each by itself: `stacked`
    is that of `select.prune`.

    Raises:
      UnreachableError: a level would not shrink a group, or would empty it.
      NothingToPruneError: every rate is 0.
      ValueError: the schedule is unknown, or the rates do not fit the layers.

    Example:
        >>> from pruning import schedule
        >>> shapes = {"fc/kernel": jnp.ones((10, 10))}
        >>> schedule.plan(shapes, 0.2, "layerwise", levels=3).kept
        [{'fc': 100}, {'fc': 80}, {'fc': 64}, {'fc': 51}]
        >>> schedule.plan(shapes, 0.2, "layerwise", levels=3, schedule="linear").kept
        [{'fc': 100}, {'fc': 80}, {'fc': 60}, {'fc': 40}]
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r} (known: {', '.join(SCHEDULES)})")
    groups = select.groups(shapes, rate, scope, stacked)
    sizes = {name: masks.total({p: shapes[p] for p in g.paths}) for name, g in groups.items()}
    kept = [dict(sizes)]
    for level in range(1, levels + 1):
        counts = {}
        for name, group in groups.items():
            size, before = sizes[name] // group.slices, kept[-1][name] // group.slices
            if schedule == "linear":
                after = size - round(level * group.rate * size)
            else:
                after = before - round(group.rate * before)
            _check(level, name, group.rate, before, after)
            counts[name] = after * group.slices
        if counts == kept[-1]:
            raise NothingToPruneError(f"level {level} would prune nothing: every rate is 0")
        kept.append(counts)
    paths = {name: group.paths for name, group in groups.items()}
    rates = {name: group.rate for name, group in groups.items()}
    slices = {name: group.slices for name, group in groups.items()}
    return Plan(paths, sizes, kept, rates, schedule, slices)


def unpruned(
    shapes: Mapping[str, Any],
    scope: select.Scope,
    levels: int,
    stacked: Mapping[str, int] | None = None,
) -> Plan:
    """Returns the plan of levels that keep all weights, for masks that come from elsewhere.

    Args:
      shapes: see `plan`.
      scope: see `plan`.
      levels: see `plan`.
      stacked: see `plan`.

    Example:
        >>> from pruning import schedule
        >>> shapes = {"fc1/kernel": jnp.ones((4, 3)), "fc2/kernel": jnp.ones((3, 2))}
        >>> schedule.unpruned(shapes, "global", levels=2).kept
        [{'all layers': 18}, {'all layers': 18}, {'all layers': 18}]
    """
    groups = select.groups(shapes, 0.0, scope, stacked)
    sizes = {name: masks.total({p: shapes[p] for p in g.paths}) for name, g in groups.items()}
    return Plan(
        paths={name: group.paths for name, group in groups.items()},
        sizes=sizes,
        kept=[dict(sizes) for _ in range(levels + 1)],
        rates=dict.fromkeys(groups, 0.0),
        schedule="geometric",
        slices={name: group.slices for name, group in groups.items()},
    )


def _check(level: int, name: str, rate: float, before: int, after: int) -> None:
    """Refuses a level at which a group with a rate loses no weight, or keeps none."""
    if after < 1:
        reason = f"level {level} would empty {name!r} ({before} weights left before it)"
        raise UnreachableError(reason, level - 1, "smaller")
    if rate > 0 and after == before:
        share = f"{rate:g} of its {before} weights rounds to none"
        reason = f"level {level} would stop shrinking {name!r} ({share})"
        raise UnreachableError(reason, level - 1, "larger")
