"""How many cases a fuzzer tries, and from which seed."""

import os
from collections.abc import Iterator

import numpy as np


def generators(default: int) -> Iterator[np.random.Generator]:
    """Yields one seeded generator for each case: as many as FUZZ_CASES says, or the default."""
    for case in range(int(os.environ.get("FUZZ_CASES", default))):
        yield np.random.default_rng(case)
