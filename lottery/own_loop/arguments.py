"""Checks of `loop.iterate`'s arguments that are not trees, and the plan that they make."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from groundwork.errors import unknown
from pruning import schedule
from pruning.criteria import CRITERIA, Criterion
from pruning.masks import Mask
from pruning.schedule import Plan
from pruning.select import SCOPES, Rate, Scope

FUNCTIONS = ("loss", "apply", "output_loss")  # that criteria call


def plan(
    dense: Mask, rate: Rate, scope: Scope, levels: int, stacked: Mapping[str, int] | None
) -> Plan:
    """Returns the counts of all levels.

    Raises:
      ValueError: an argument is wrong, or a level cannot be reached.
    """
    check_known("scope", scope, SCOPES)
    if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or levels < 0:
        raise ValueError(f"levels={levels!r} must be an integer, at least 0")
    try:
        return schedule.plan(dense, rate, scope, int(levels), stacked=stacked)
    except schedule.UnreachableError as error:
        remedy = f"set levels={error.levels} or fewer, or a {error.rate} rate"
        raise ValueError(f"{error}: {remedy}") from error
    except schedule.NothingToPruneError as error:
        raise ValueError(f"{error}; set levels=0 for the dense network alone") from error


def chosen(criterion: str | Criterion, evidence: Mapping[str, Any]) -> Criterion:
    """Returns the criterion.

    Args:
      criterion: a name, or the criterion itself.
      evidence: `loss`, `examples`, `apply` and `output_loss` as they are given, or None.

    Raises:
      ValueError: its name is unknown, or it needs something that is not given.
    """
    if not isinstance(criterion, Criterion):
        check_known("criterion", criterion, CRITERIA)
        criterion = CRITERIA[criterion]
    for name, given in evidence.items():
        if name in FUNCTIONS and given is not None and not callable(given):
            raise ValueError(f"{name} must be a function, not {given!r}")
    needs = set(criterion.needs) | ({"loss", "examples"} if _looks(criterion) else set())
    if "movement" in needs:
        raise ValueError(
            f"the criterion {name_of(criterion)} needs movement, which iterate has no argument for"
        )
    lacking = [f"{name}=" for name, given in evidence.items() if name in needs and given is None]
    if lacking:
        raise ValueError(f"the criterion {name_of(criterion)} needs {' and '.join(lacking)}")
    return criterion


def _looks(criterion: Criterion) -> bool:
    """Returns whether a criterion that does not say what it needs looks at examples."""
    return bool(criterion.examples) and not criterion.needs


def name_of(criterion: Criterion) -> str:
    """Returns the name of a criterion: that of the table, or of its function."""
    names = [name for name, known in CRITERIA.items() if known == criterion]
    score = criterion.score
    qualified = getattr(score, "__qualname__", type(score).__qualname__)
    return names[0] if names else f"{score.__module__}.{qualified}"


def check_known(what: str, name: Any, known: Iterable[str]) -> None:
    """Refuses a name that is not known, and suggests the most similar one."""
    if not isinstance(name, str) or name not in known:
        raise ValueError(str(unknown(what, name, known)))


def check_functions(fit: Any, prunable: Any, warm_up: Any, rewind: Any) -> None:
    """Refuses what is no function, or not True or False."""
    for what, given in (("fit", fit), ("prunable", prunable), ("warm_up", warm_up)):
        if not callable(given) and (given is not None or what == "fit"):
            raise ValueError(f"{what} must be a function, not {given!r}")
    if not isinstance(rewind, bool):
        raise ValueError(f"rewind must be True or False, not {rewind!r}")
