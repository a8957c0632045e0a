"""Which layers a multi-scale dense network has, all in integers.

Source: Huang et al., arXiv:1703.09844, Section 4, and the authors' code where the paper is silent.
"""

import math
from typing import NamedTuple

STEP_MODES = ("even", "lin_grow")
PRUNE = ("max", "min")
MOST_LAYERS = 10_000


class Layer(NamedTuple):
    """One layer of the grid; scales are counted from the coarsest, which is always there."""

    inputs: int  # scales that it reads
    outputs: int  # scales that it writes; finer ones are dropped
    transition: int  # channels per unit of growth factor after a 1×1 reduction; 0 = no reduction


def spans(blocks: int, base: int, step: int, step_mode: str) -> list[int]:
    """Returns each block's number of layers: `base`, then `step` or (`lin_grow`) step × k + 1."""
    later = (step if step_mode == "even" else step * k + 1 for k in range(1, blocks))
    return [base, *later]


def layers(
    spans: list[int], scales: int, channels: int, growth: int, reduction: float, prune: str
) -> list[list[Layer]]:
    """Returns the layers of each block.

    With `max`, a scale is dropped after every ⌈layers / scales⌉ layers, and a transition reduces
    the remaining ones to ⌊reduction × channels⌋, at least 1. With `min`, a scale stays as long as a
    later classifier can see it, and there are transitions after a third and after two thirds of
    the layers.
    """
    total, number, blocks = sum(spans), 0, []
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
        blocks.append(block)
    return blocks


def _scales(number: int, total: int, scales: int, prune: str) -> tuple[int, int, bool]:
    """Returns how many scales layer `number` reads and writes; does a transition follow?

    Layers are numbered from 1.
    """
    if prune == "min":
        left = total - number
        thirds = (math.floor(total / 3), math.floor(2 * total / 3))
        return min(scales, left + 2), min(scales, left + 1), number in thirds
    interval = math.ceil(total / scales)
    inputs = scales - max(0, number - 2) // interval
    outputs = scales - (number - 1) // interval
    return inputs, outputs, inputs > outputs
