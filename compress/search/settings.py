"""What a compressed network does to each of its layers: the vocabulary of the search."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lowrank.factorization import Plan

Rank = int | tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is done to one layer. The default changes nothing.

    The order is that of the fields: units go, what is left is factorised, its kernels are pruned,
    and what is kept is rounded.

    Attributes:
      units: share of the units of the layer's outputs that stay, in (0, 1]. It is said at the layer
        whose name the group of units has in `pruning.structured`, and holds for all layers that
        have units of the group.
      rank: of the low-rank form, two of `tucker`; 0 = none.
      method: of the low-rank form, a name of `lowrank`; "" = none.
      density: share of each of the layer's kernels' weights that stay, in (0, 1].
      bits: of the kernels' weights; 0 = float32.
      activation_bits: of the layer's inputs; 0 = float32.
    """

    units: float = 1.0
    rank: Rank = 0
    method: str = ""
    density: float = 1.0
    bits: int = 0
    activation_bits: int = 0

    def __str__(self) -> str:
        words = [
            f"{self.units:g} of the units" if self.units < 1 else "",
            f"{self.method} {_ranks(self.rank)}" if self.method else "",
            f"density {self.density:g}" if self.density < 1 else "",
            f"{self.bits} bits" if self.bits else "",
            f"inputs of {self.activation_bits} bits" if self.activation_bits else "",
        ]
        return ", ".join(filter(None, words)) or "as it is"

    @property
    def changes_form(self) -> bool:
        """Whether units go or the layer is factorised, so that its kernels have other shapes."""
        return self.units < 1 or bool(self.method)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that are not the default."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


Choice = Mapping[str, Setting]  # layer → its setting; a layer that is left out stays as it is
AS_IT_IS = Setting()


def setting(fields: Mapping[str, Any]) -> Setting:
    """Returns the setting of fields as JSON has them, checked.

    Raises:
      ValueError: a field is unknown, or out of range.
    """
    known = {field.name for field in dataclasses.fields(Setting)}
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"{', '.join(map(str, unknown))} is no part of a setting")
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    made = Setting(**values)
    for name in ("units", "density"):
        value = getattr(made, name)
        if not isinstance(value, int | float) or not 0 < value <= 1:
            raise ValueError(f"{name}={value!r} must lie in (0, 1]")
    for name in ("bits", "activation_bits"):
        value = getattr(made, name)
        if type(value) is not int or not 0 <= value <= 16:
            raise ValueError(f"{name}={value!r} must be an integer from 0 to 16")
    ranks = made.rank if isinstance(made.rank, tuple) else (made.rank,)
    if not all(type(rank) is int and rank >= 0 for rank in ranks):
        raise ValueError(f"rank={made.rank!r} must be an integer, or two")
    if bool(made.method) != all(ranks):
        raise ValueError(f"rank={made.rank!r} and method={made.method!r} go together")
    return made


def from_json(choice: Mapping[str, Mapping[str, Any]]) -> dict[str, Setting]:
    """Returns a choice of what `to_json` gave.

    Raises:
      ValueError: see `setting`.
    """
    made = {}
    for layer, fields in choice.items():
        try:
            made[layer] = setting(fields)
        except ValueError as error:
            raise ValueError(f"{layer}: {error}") from error
    return made


def to_json(choice: Choice) -> dict[str, dict[str, Any]]:
    """Returns a choice as JSON keeps it, without layers that stay as they are."""
    return {layer: one.to_json() for layer, one in choice.items() if one != AS_IT_IS}


def plan(choice: Choice) -> Plan:
    """Returns the low-rank layers of a choice, as `lowrank.factorization` takes them."""
    return {
        layer: {
            "method": one.method,
            "rank": list(one.rank) if isinstance(one.rank, tuple) else one.rank,
        }
        for layer, one in choice.items()
        if one.method
    }


def units(choice: Choice) -> dict[str, float]:
    """Returns group → the share of its units that stays, of the groups that lose some."""
    return {layer: one.units for layer, one in choice.items() if one.units < 1}


def _ranks(rank: Rank) -> str:
    return "×".join(map(str, rank)) if isinstance(rank, tuple) else str(rank)
