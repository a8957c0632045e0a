"""What networks cost by an additive model. Read `Costs`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from compress.search.options import Space
from compress.search.settings import AS_IT_IS, Choice, Rank, Setting, units

COSTS = ("bytes", "parameters", "multiply_adds", "memory_bytes", "milliseconds")
PER_UNIT = {"milliseconds": 1e6}  # integers in a unit of a cost: nanoseconds
FLOAT_BITS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """What a layer costs.

    Attributes:
      size: the weights of its kernel.
      density: of the kernel before anything is changed.
      coded: (density, bits) → bytes of the kernel in an archive.
      forms: (method, rank) → parameters, multiply-adds and nanoseconds; ("", 0) is its own.
    """

    size: int
    density: float
    coded: Mapping[tuple[float, int], int]
    forms: Mapping[tuple[str, Rank], tuple[int, int, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """An additive model of what a network costs.

    Bytes are those of the layer's own kernel at a density and a number of bits, really coded; a
    low-rank form has a share of them that is its share of the weights, and so has a layer that
    loses units, its own or those that it takes. Places and codebooks do not really shrink alike:
    `whole` is what counts in the end. Memory is that of `whole`, with the activations' peak of the
    network as it is.

    Attributes:
      names: of `COSTS`.
      layers: what each costs.
      rest: cost → what no choice changes, in the integers of `options`.
      space: whose units scale the layers.
    """

    names: tuple[str, ...]
    layers: Mapping[str, Layer]
    rest: Mapping[str, int]
    space: Space

    def options(self, layer: str, setting: Setting, kept: Mapping[str, float]) -> dict[str, int]:
        """Returns what a layer costs; milliseconds in nanoseconds, all others in their units.

        Args:
          layer: of the space.
          setting: of the layer, but for its units.
          kept: group → the share of its units that stays, of all groups that lose some.
        """
        one, scale = self.layers[layer], self.scale(layer, kept)
        weights, products, nanoseconds = one.forms[setting.method, setting.rank]
        density = min(setting.density, 1.0 if setting.method else one.density)
        coded = one.coded.get((setting.density, setting.bits), 0)
        bits = setting.bits or FLOAT_BITS
        costs = {
            "bytes": coded * weights / one.size,
            "parameters": density * weights,
            "multiply_adds": products,
            "memory_bytes": weights * bits / 8,
            "milliseconds": nanoseconds,
        }
        return {name: round(costs[name] * scale) for name in self.names}

    def scale(self, layer: str, kept: Mapping[str, float]) -> float:
        """Returns the share of a layer's weights that is left when units go."""
        shares = {name: self._kept(name, share) for name, share in kept.items()}
        return math.prod(
            1 - sum(share * (1 - shares.get(group, 1.0)) for group, share in axis.items())
            for axis in self.space.axes.get(layer, ())
        )

    def of(self, choice: Choice) -> dict[str, float]:
        """Returns what the model says of a whole network, in the costs' own units."""
        gone = units(choice)
        totals = dict(self.rest)
        for layer in self.layers:
            for name, cost in self.options(layer, choice.get(layer, AS_IT_IS), gone).items():
                totals[name] += cost
        return {name: total / PER_UNIT.get(name, 1) for name, total in totals.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the costs as JSON keeps them, without the space."""
        return {
            "names": list(self.names),
            "rest": dict(self.rest),
            "layers": {
                path: {
                    "size": one.size,
                    "density": one.density,
                    "coded": [[*key, size] for key, size in one.coded.items()],
                    "forms": [[*key, *numbers] for key, numbers in one.forms.items()],
                }
                for path, one in self.layers.items()
            },
        }

    @staticmethod
    def from_json(saved: Mapping[str, Any], space: Space) -> "Costs":
        """Returns the costs of what `to_json` gave, and of the space."""
        layers = {
            path: Layer(
                size=one["size"],
                density=one["density"],
                coded={(density, bits): size for density, bits, size in one["coded"]},
                forms={
                    (method, tuple(rank) if isinstance(rank, list) else rank): tuple(numbers)
                    for method, rank, *numbers in one["forms"]
                },
            )
            for path, one in saved["layers"].items()
        }
        return Costs(names=tuple(saved["names"]), layers=layers, rest=saved["rest"], space=space)

    def _kept(self, group: str, share: float) -> float:
        one = self.space.units.get(group)
        return one.kept(share) / one.number if one else share
