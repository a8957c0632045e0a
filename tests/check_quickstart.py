"""python -m tests.check_quickstart RUN: did the quickstart find a winning ticket?

At the last level the ticket must beat its dense network by 0.05 and its random mask by 0.04.
"""

import sys
from pathlib import Path

import numpy as np

from lottery import results


def main(folder: str) -> None:
    run = results.read(Path(folder))
    level = run.of("ticket")[-1].level
    keys = {
        "dense": ("ticket", 0),
        "ticket": ("ticket", level),
        "random_mask": ("random_mask", level),
    }
    means = {name: float(np.mean(run.points[key].accuracy)) for name, key in keys.items()}
    print(f"level {level}:", ", ".join(f"{name} {mean:.4f}" for name, mean in means.items()))
    for control, margin in (("dense", 0.05), ("random_mask", 0.04)):
        if means["ticket"] < means[control] + margin:
            sys.exit(f"the ticket does not beat {control} by {margin}")


if __name__ == "__main__":
    main(sys.argv[1])
