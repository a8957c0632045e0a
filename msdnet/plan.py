"""Which layers a multi-scale dense network has, in integers alone.

Source: Huang et al., arXiv:1703.09844, Section 4, and the authors' code where the paper is silent.
"""

import math
from typing import NamedTuple

STEP_MODES = ("even", "lin_grow")
PRUNE = ("max", "min")


class Layer(NamedTuple):
    """One layer of the grid: scales are counted from the coarsest, which is always there."""

    inputs: int  # scales that it reads
    outputs: int  # scales that it writes: the finest of the others are dropped
    transition: int  # channels a unit of growth factor after a 1×1 reduction behind it; 0 = none


def spans(blocks: int, base: int, step: int, step_mode: str) -> list[int]:
    """Layers of each block: `base`, then `step` each (`even`) or step × k + 1 (`lin_grow`)."""
    later = (step if step_mode == "even" else step * k + 1 for k in range(1, blocks))
    return [base, *later]


def layers(
    spans: list[int], scales: int, channels: int, growth: int, reduction: float, prune: str
) -> list[list[Layer]]:
    """The layers of each block.

    With `max`, a scale is dropped after every ⌈layers / scales⌉ layers, and what is kept goes
    through a transition to ⌊reduction × channels⌋, at least 1. With `min`, a scale lives as long
    as a later classifier can see it, and there are transitions after a third and two thirds of the
    layers.
    """
    total, number, found = sum(spans), 0, []
    for span in spans:
        block = []
        for _ in range(span):
            number += 1
            inputs, outputs, reduces = _scales(number, total, scales, prune)
            channels += growth
            transition = 0
            if reduces and reduction > 0:
                transition = channels = max(1, math.floor(reduction * channels))
            block.append(Layer(inputs, outputs, transition))
        found.append(block)
    return found


def _scales(number: int, total: int, scales: int, prune: str) -> tuple[int, int, bool]:
    """Scales that layer `number` (from 1) reads and writes; is there a transition behind it?"""
    if prune == "min":
        left = total - number
        thirds = (math.floor(total / 3), math.floor(2 * total / 3))
        return min(scales, left + 2), min(scales, left + 1), number in thirds
    interval = math.ceil(total / scales)
    inputs = scales - max(0, number - 2) // interval
    outputs = scales - (number - 1) // interval
    return inputs, outputs, inputs > outputs
