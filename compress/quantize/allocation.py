"""Mixed precision: how many bits each layer gets."""

import math
from collections.abc import Mapping
from typing import cast

from groundwork.errors import UserError
from groundwork.numerics import checks
from lowrank.choose import ranks


def allocate(
    sensitivities: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], budget_bits: int
) -> dict[str, int]:
    """Bits for each layer, of least total increase of the loss, within a budget of bits.

    Increases of layers are taken to add up. Solved by `ranks.choose`: exactly, while no
    more than `ranks.STATES` partial choices are undominated; its docstring has the bound beyond.
    Ties fall to fewer bits in all.

    Args:
      sensitivities: layer → bits → increase of the loss with that layer alone at so many bits;
        any finite number, as measured increases may be negative.
      sizes: layer → number of weights.
      budget_bits: for all weights together, Σ size × bits; codebooks and scales do not count.

    Returns:
      layer → bits, in the order of `sensitivities`.

    Raises:
      UserError: the budget is below the fewest bits of all layers together.
      ValueError: no layer, layers with sensitivities and without sizes or the reverse, a size
        below 1, a layer without bits, bits outside 1…32, an increase that is not finite.
    """
    _check(sensitivities, sizes)
    fewest = sum(min(by_bits) * sizes[layer] for layer, by_bits in sensitivities.items())
    if budget_bits < fewest:
        raise UserError(
            f"a budget of {budget_bits:,} bits is below {fewest:,}, the least for "
            f"{len(sizes)} layers"
        )
    candidates = {}
    for layer, by_bits in sensitivities.items():
        least = min(by_bits.values())  # `choose` adds squares: none below 0
        candidates[layer] = [
            ranks.Candidate("bits", bits, bits * sizes[layer], math.sqrt(increase - least))
            for bits, increase in sorted(by_bits.items())
        ]
    chosen = ranks.choose(candidates, budget_bits)
    return {layer: cast(int, candidate.rank) for layer, candidate in chosen.items()}


def _check(sensitivities: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int]) -> None:
    if differing := sorted(sensitivities.keys() ^ sizes.keys()):
        raise ValueError(f"sensitivities and sizes differ in the layers {differing}")
    if not sizes:
        raise ValueError("no layer to allocate bits to")
    for layer, by_bits in sensitivities.items():
        if sizes[layer] < 1:
            raise ValueError(f"layer {layer!r} has size {sizes[layer]}: 1 at least")
        if not by_bits:
            raise ValueError(f"layer {layer!r} has no sensitivities")
        for bits, increase in by_bits.items():
            checks.bits(bits, 1, 32)
            if not math.isfinite(increase):
                raise ValueError(f"layer {layer!r} at {bits} bits: increase {increase}")
