"""Mixed precision: how many bits each layer gets."""

import math
from collections.abc import Mapping

from groundwork.numerics import checks, knapsack


class BudgetError(ValueError):
    """A budget that is below the fewest bits of all layers together."""


def allocate(
    sensitivities: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], budget_bits: int
) -> dict[str, int]:
    """Returns layer → bits, with the least total increase of the loss within a budget of bits.

    The increases of the layers are taken to add up. `knapsack.choose` solves this exactly as long
    as no more than `knapsack.STATES` partial choices are undominated; its docstring has the bound
    beyond that. Ties fall to fewer bits in all.

    Args:
      sensitivities: layer → bits → increase of the loss when that layer alone has so many bits.
        Any finite number will do, since measured increases may be negative.
      sizes: layer → number of weights.
      budget_bits: for all weights together, Σ size × bits. Codebooks and scales do not count.

    Returns:
      Layer → bits, in the order of `sensitivities`.

    Raises:
      BudgetError: the budget is below the fewest bits of all layers together.
      ValueError: there is no layer, or one has sensitivities and no size or the reverse; a size is
        below 1; a layer has no bits, or bits outside 1…32; an increase is not finite.

    Example:
        >>> from compress import quantize
        >>> losses = {"first": {2: 0.9, 4: 0.1}, "last": {2: 0.2, 4: 0.1}}
        >>> sizes = {"first": 100, "last": 100}
        >>> quantize.allocate(losses, sizes, budget_bits=600)  # 3 bits per weight
        {'first': 4, 'last': 2}
    """
    _check(sensitivities, sizes)
    choices = {layer: sorted(by_bits.items()) for layer, by_bits in sensitivities.items()}
    options = {
        layer: [knapsack.Option(bits * sizes[layer], increase) for bits, increase in pairs]
        for layer, pairs in choices.items()
    }
    if budget_bits < (fewest := knapsack.least_cost(options)):
        raise BudgetError(
            f"a budget of {budget_bits:,} bits is below {fewest:,}, the least for "
            f"{len(sizes)} layers"
        )
    chosen = knapsack.choose(options, budget_bits)
    return {layer: choices[layer][index][0] for layer, index in chosen.items()}


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
