"""The options of each layer, as data. Read `Space`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from compress.search import settings
from compress.search.settings import Choice, Setting
from groundwork.errors import unknown

APART = "a network without some units is neither factorised nor has inputs of few bits"
LISTED = 8  # options that the table names one by one


class Units(NamedTuple):
    """A group of units that may go.

    Attributes:
      number: of them.
      layers: the layers whose kernels have them, at their outputs or inputs.
    """

    number: int
    layers: tuple[str, ...]

    def kept(self, share: float) -> int:
        """Returns how many stay."""
        return max(1, round(share * self.number))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """What a search may choose from.

    Attributes:
      options: layer → its options; the first changes nothing.
      left: what is not proposed → why.
      units: group → its units; it is named after the layer that says how many stay.
      axes: layer → for each axis of its kernel, group → the share of the axis that is its units'.
    """

    options: Mapping[str, tuple[Setting, ...]]
    left: Mapping[str, str] = dataclasses.field(default_factory=dict)
    units: Mapping[str, Units] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, tuple[Mapping[str, float], ...]] = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of its choices."""
        return math.prod(len(row) for row in self.options.values())

    def check(self, choice: Choice) -> None:
        """Refuses a choice that is not of this space.

        Raises:
          ValueError: a layer has no such option, or two of the settings exclude each other.
        """
        for layer, setting in choice.items():
            if layer not in self.options:
                why = self.left.get(layer)
                raise ValueError(
                    f"{layer} stays as it is: {why}"
                    if why
                    else str(unknown("layer", layer, self.options))
                )
            if setting not in self.options[layer]:
                raise ValueError(f"{layer}: {setting} is none of its options")
        if apart(choice.values()):
            raise ValueError(APART)

    def parts(self) -> tuple["Space", ...]:
        """Returns spaces in which each option of a layer goes with all options of the others.

        Where units may go and layers be factorised, or inputs lose bits, there is one without the
        former and one without the latter.
        """
        if not apart(option for row in self.options.values() for option in row):
            return (self,)
        return tuple(
            dataclasses.replace(
                self,
                options={
                    layer: tuple(option for option in row if keep(option))
                    for layer, row in self.options.items()
                },
            )
            for keep in (_keeps_units, _keeps_form)
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the space as JSON keeps it."""
        return {
            "options": {
                layer: [option.to_json() for option in row] for layer, row in self.options.items()
            },
            "left": dict(self.left),
            "units": {name: [one.number, list(one.layers)] for name, one in self.units.items()},
            "axes": {layer: [dict(axis) for axis in axes] for layer, axes in self.axes.items()},
        }

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> "Space":
        """Returns the space of what `to_json` gave."""
        return Space(
            options={
                layer: tuple(settings.setting(fields) for fields in row)
                for layer, row in saved["options"].items()
            },
            left=saved["left"],
            units={
                name: Units(number, tuple(layers))
                for name, (number, layers) in saved["units"].items()
            },
            axes={layer: tuple(axes) for layer, axes in saved["axes"].items()},
        )

    def rows(self) -> list[list[str]]:
        """Returns a table: a heading, then for each layer what may be done to it."""
        table = [["layer", "options", "units", "low rank", "densities", "bits", "inputs"]]
        for layer, row in self.options.items():
            table.append(
                [
                    layer,
                    f"{len(row):,}",
                    _listed(option.units for option in row if option.units < 1),
                    _forms(row),
                    _listed(option.density for option in row if option.density < 1),
                    _listed(option.bits for option in row if option.bits),
                    _listed(option.activation_bits for option in row if option.activation_bits),
                ]
            )
        return table

    def __str__(self) -> str:
        table = self.rows()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        left = [f"not proposed: {what}: {why}" for what, why in self.left.items()]
        return "\n".join([*lines, f"{self.size:,} choices", *left])


def _keeps_units(option: Setting) -> bool:
    return option.units == 1


def _keeps_form(option: Setting) -> bool:
    return not option.method and not option.activation_bits


def apart(options: Any) -> bool:
    """Returns whether units go in some of them, and others exclude that."""
    options = list(options)
    return not (all(map(_keeps_units, options)) or all(map(_keeps_form, options)))


def _listed(values: Any) -> str:
    numbers = sorted(set(values), reverse=True)
    if len(numbers) > LISTED:
        return f"{numbers[0]:g} … {numbers[-1]:g} ({len(numbers)})"
    return " ".join(f"{number:g}" for number in numbers) or "-"


def _forms(row: Sequence[Setting]) -> str:
    counts: dict[str, set[Any]] = {}
    for option in row:
        if option.method:
            counts.setdefault(option.method, set()).add(option.rank)
    return " ".join(f"{method} ({len(ranks)})" for method, ranks in counts.items()) or "-"
