"""What a compressed network does to each of its layers: the vocabulary of the search."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is done to one layer. The default changes nothing.

    The order is that of the fields: units go, what is left is factorised, its kernels are pruned,
    and what is kept is rounded.

    Attributes:
      units: share of the units of the layer's outputs that stay, in (0, 1].
      rank: of the low-rank form; 0 = none.
      method: of the low-rank form, a name of `lowrank`; "" = none.
      density: share of the kernel's weights that stay, in (0, 1].
      bits: of the kernel's weights; 0 = float32.
      activation_bits: of the layer's inputs; 0 = float32.
    """

    units: float = 1.0
    rank: int = 0
    method: str = ""
    density: float = 1.0
    bits: int = 0
    activation_bits: int = 0


Choice = Mapping[str, Setting]  # layer → its setting; a layer that is left out stays as it is
