"""A network with exits that really stops: block after block, each a file of an engine.

It needs numpy and the engine alone.
"""

# B batch of the files, K exits, N examples

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MANIFEST = "exits.json"


class Answers(NamedTuple):
    """One entry per example, in the examples' order."""

    logits: np.ndarray  # [N, classes] float32, of the exit that was taken
    exits: np.ndarray  # [N] int32 in [0, K)


def load_exits(
    folder: str | Path,
    engine: str,
    thresholds: Sequence[float],
    threads: int = 1,
    temperatures: Sequence[float] | None = None,
) -> Callable[..., Answers]:
    """Returns what `deploy.export_exits` wrote as a function of numpy arrays.

    An example leaves at the first exit whose largest softmax probability is above the exit's
    threshold; blocks beyond it are not computed for it. Those that stay go on together, B at a
    time; the last batch is filled with copies.

    Args:
      folder: with the files.
      engine: for which they were written, one of `engines.ENGINES`.
      thresholds: [K − 1], as `msdnet.exits.thresholds` chooses them; none may be NaN. At the last
        exit everything leaves.
      threads: on which the engine computes.
      temperatures: [K], positive, by which logits are divided first; None = 1.

    Returns:
      A function of arrays [N, …] like the example of the export, N from 1. The logits that it gives
      are not divided by temperatures. It raises ValueError about other shapes.

    Raises:
      ValueError: see `engines.load`; the thresholds or temperatures are not as said above.
      FileNotFoundError: the folder is not what a finished `export_exits` left.

    Source: Huang et al., arXiv:1703.09844, Section 3.

    Example:
        >>> import deploy
        >>> first = lambda scale, x: (x, x)  # features for the next block, and logits
        >>> last = lambda scale, x: (None, scale * x)
        >>> _ = deploy.export_exits([first, last], 10.0, jnp.zeros((1, 2)), "onnxruntime", "exits")
        >>> run = deploy.load_exits("exits", "onnxruntime", thresholds=[0.9])
        >>> answers = run(np.float32([[4.0, 0.0], [0.0, 1.0]]))  # the second one is less clear
        >>> answers.exits.tolist(), answers.logits.tolist()
        ([0, 1], [[4.0, 0.0], [0.0, 10.0]])
    """
    from deploy import engines

    folder = Path(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    names, batch = manifest["blocks"], manifest["batch"]
    limits = np.append(np.asarray(thresholds, np.float64), -np.inf)
    if limits.shape != (len(names),) or np.isnan(limits).any():
        raise ValueError(
            f"thresholds={np.asarray(thresholds).tolist()} must be {len(names) - 1} numbers for "
            f"{len(names)} exits"
        )
    scales = np.ones(len(names)) if temperatures is None else np.asarray(temperatures, np.float64)
    if scales.shape != limits.shape or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"temperatures={scales.tolist()} must be {len(names)} positive numbers")
    blocks = [engines.load(folder / name, engine, threads) for name in names]

    def run(*inputs: np.ndarray) -> Answers:
        arrays = [np.asarray(array) for array in inputs]
        counts = {array.shape[:1] for array in arrays}
        if len(counts) != 1 or counts & {(), (0,)}:
            given = ", ".join(str(list(array.shape)) for array in arrays)
            raise ValueError(f"inputs must be arrays [N, …] of one N from 1, not {given}")
        return _run(blocks, limits, scales, batch, arrays)

    return run


def confidence(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the largest softmax probability: [N, classes] → [N] float32."""
    scaled = logits.astype(np.float32) / np.float32(temperature)
    return 1 / np.sum(np.exp(scaled - scaled.max(-1, keepdims=True)), -1)


def _run(
    blocks: Sequence[Callable[..., Any]],
    limits: np.ndarray,
    scales: np.ndarray,
    batch: int,
    features: list[np.ndarray],
) -> Answers:
    count = len(features[0])
    going, rows = np.arange(count), [np.zeros(0, np.float32)] * count
    exits = np.zeros(count, np.int32)
    for k, block in enumerate(blocks):
        *features, logits = _called(block, features, batch, is_last=k == len(blocks) - 1)
        leaves = ~(confidence(logits, scales[k]) <= limits[k])  # at the last exit NaN, too
        exits[going[leaves]] = k
        for place, row in zip(going[leaves], logits[leaves], strict=True):
            rows[place] = row
        going, features = going[~leaves], [array[~leaves] for array in features]
        if not going.size:
            break
    return Answers(np.stack(rows), exits)


def _called(
    block: Callable[..., Any], features: list[np.ndarray], batch: int, is_last: bool
) -> Sequence[np.ndarray]:
    """Returns what a block gives for any number of examples."""
    count = len(features[0])
    places = np.minimum(np.arange(-(-count // batch) * batch), count - 1)
    found = block(*(array[places] for array in features))
    return [array[:count] for array in ((found,) if is_last else found)]
