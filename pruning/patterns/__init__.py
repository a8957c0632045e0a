"""Masks that hardware can make use of: N of M neighbours, and whole blocks.

`n_m` and `blocks` are these masks for the scores of any criterion; `prune_to` prunes a network's
mask to one of the patterns that a config can name: "2:4", "4:8", "1x4", "4x4", "16x16", or
"output": as many weights of each output, within which Wanda ranks (arXiv:2306.11695).
`n_m_permutation` puts channels into an order of which N:M keeps more.
"""

from pruning.patterns.choose import blocks, n_m, prune_to
from pruning.patterns.pattern import NM, Blocks, Pattern, PerOutput, input_axes, parse, unfit
from pruning.patterns.permutation import Permutation, n_m_permutation

__all__ = [
    "NM",
    "Blocks",
    "Pattern",
    "PerOutput",
    "Permutation",
    "blocks",
    "input_axes",
    "n_m",
    "n_m_permutation",
    "parse",
    "prune_to",
    "unfit",
]
