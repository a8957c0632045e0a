"""How the ranks of all layers are chosen: settings that commands share, and checks of them.

The checks raise `ValueError` about their arguments; a command adds the key of its own config.
"""

# L M sizes of a matrix

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from groundwork.errors import unknown
from lowrank.choose import plans, ranks
from lowrank.choose.approximation import MATRICES
from lowrank.factorization.methods import METHODS

RULES = ("budget", "energy", "vbmf")
Shares = Annotated[tuple[float, ...], "numbers in (0, 1], such as (0.5, 0.25)"]
Patterns = Annotated[tuple[str, ...], "patterns, such as ('conv1',)"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What chooses methods and ranks.

    Attributes:
      methods: one sweep each, of `svd`, `svd_outputs`, `spatial`, `tucker`, `cp`, `any`.
      ranks: what chooses the ranks: `budget`, `energy`, `vbmf`.
      shares: of the dense layers' cost (`budget`) or of the energy (`energy`); `vbmf` uses none.
      measure: what budgets count: `macs`, `parameters`, `milliseconds`.
      leave: patterns (fnmatch) of layers that are left alone.
      keep_slow: factorise layers also where that is not faster on this machine.
    """

    methods: tuple[str, ...]
    ranks: str
    shares: Shares
    measure: str
    leave: Patterns
    keep_slow: bool

    @property
    def settings(self) -> tuple[float, ...]:
        """The shares of each sweep, the largest first; (0.0,) where the rule needs none."""
        if self.ranks == "vbmf":
            return (0.0,)
        return tuple(float(share) for share in sorted(self.shares, reverse=True))

    def rule(self, share: float) -> Callable[[np.ndarray], int]:
        """Returns what chooses the rank of a matrix [L, M] where no budget does."""
        if self.ranks == "vbmf":
            return ranks.vbmf
        return lambda matrix: ranks.energy(matrix, share)


def check_methods(methods: Any, rule: str) -> None:
    """Refuses methods that do not exist, or whose ranks the rule cannot choose.

    Args:
      methods: names, each once.
      rule: one of `RULES`.

    Raises:
      ValueError: they are not such methods.
    """
    _check_sequence(methods)
    known = (*METHODS["Conv"], plans.JOINT)
    for method in methods:
        if method not in known:
            raise ValueError(str(unknown("method", method, known)))
    if not methods or len(set(methods)) < len(methods):
        raise ValueError(f"{methods} must name methods, each once")
    for method in methods:
        if rule != "budget" and method not in MATRICES:
            raise ValueError(
                f"the ranks of {method!r} are chosen by budget alone (by rule: "
                f"{', '.join(MATRICES)})"
            )


def check_rule(rule: str) -> None:
    """Refuses a rule that does not exist.

    Raises:
      ValueError: it is not one of `RULES`.
    """
    if rule not in RULES:
        raise ValueError(str(unknown("rule", rule, RULES)))


def check_shares(shares: Any, rule: str) -> None:
    """Refuses shares that a rule cannot use.

    Args:
      shares: of the cost or of the energy.
      rule: one of `RULES`.

    Raises:
      ValueError: they are outside (0, 1], repeated, or missing.
    """
    _check_sequence(shares)
    for share in shares:
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 < share <= 1:
            raise ValueError(f"{shares} must lie in (0, 1]")
    if rule != "vbmf" and not shares:
        raise ValueError(f"{shares} is empty: give shares in (0, 1], such as (0.5, 0.25)")
    if len({f"{share:g}" for share in shares}) < len(shares):
        raise ValueError(f"{shares} must name each share once (six digits count)")


def check_measure(measure: str) -> None:
    """Refuses what no budget can count.

    Raises:
      ValueError: it is not one of `plans.MEASURES`.
    """
    if measure not in plans.MEASURES:
        raise ValueError(str(unknown("measure", measure, plans.MEASURES)))


def check_leave(patterns: Any) -> None:
    """Refuses patterns that are not texts.

    Raises:
      ValueError: they are not.
    """
    _check_sequence(patterns)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"{patterns} must be patterns, such as ('conv1',)")


def _check_sequence(values: Any) -> None:
    if not isinstance(values, tuple | list):
        raise ValueError(f"{values!r} must be a sequence")
