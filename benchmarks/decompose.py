"""python -m benchmarks.decompose: CP of a kernel beside TensorLy's, and all of VGG-16 in one go.

CP by alternating least squares of a 3×3×128×256 kernel, float32, 100 sweeps without early stop,
from the same starting factors: ours (which also computes the error and keeps the best factors every
tenth sweep) beside TensorLy's numpy backend (told to compute no error), in turns in one process.
Then every convolution of VGG-16 by CP, Tucker-2 and spatial factors, and their ranks by VBMF.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

SHAPE = (3, 3, 128, 256)
SWEEPS = 100
CP_RANK, CP_SWEEPS = 64, 100  # of every layer of VGG-16
COLUMNS = ("s", "range", "CPU s", "error")
WORDS = ("s", "+", "error")
METHODS = ("CP", "Tucker-2", "spatial", "VBMF")


def kernel(seed: int) -> np.ndarray:
    """Returns half structure, half noise: 64 smooth windows between random channel directions."""
    rng = np.random.default_rng(seed)
    bumps = [np.exp(-((np.arange(3)[:, None] - rng.uniform(0, 2, 64)) ** 2)) for _ in range(2)]
    structure = np.einsum(
        "hk,wk,ik,ok->hwio", *bumps, *(rng.normal(size=(n, 64)) for n in SHAPE[2:])
    )
    noise = rng.normal(size=SHAPE)
    scaled = structure / np.linalg.norm(structure) + noise / np.linalg.norm(noise)
    return scaled.astype(np.float32)


def relative(tensor: np.ndarray, factors: Any) -> float:
    """Returns the relative error in float64, by the same computation for both."""
    made = np.einsum(
        "hk,wk,ik,ok->hwio", *(np.asarray(f, np.float64) for f in factors), optimize=True
    )
    return float(np.linalg.norm(tensor - made) / np.linalg.norm(tensor))


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Returns seconds, CPU seconds of all threads, and the result of a call."""
    busy, begun = time.process_time(), time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begun, time.process_time() - busy, result


def against_tensorly(rank: int, repeats: int) -> list[str]:
    """Returns one row: medians of interleaved turns, and both errors."""
    from tensorly.decomposition import parafac

    from lowrank.decompositions import cp

    tensor, rng = kernel(0), np.random.default_rng(1)
    start = [rng.normal(size=(n, rank)).astype(np.float32) for n in SHAPE]

    def ours() -> Any:
        return cp.decompose(None, tensor, rank, sweeps=SWEEPS, init=start, tolerance=0).factors

    def theirs() -> Any:
        init = (np.ones(rank, np.float32), [factor.copy() for factor in start])
        return parafac(tensor, rank, n_iter_max=SWEEPS, init=init, tol=0).factors

    first, _, _ = timed(ours)
    turns: dict[str, list[tuple[float, float, Any]]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        turns["ours"].append(timed(ours))
        turns["theirs"].append(timed(theirs))
    medians = {who: statistics.median(t[0] for t in turn) for who, turn in turns.items()}
    cells = []
    for turn in turns.values():
        seconds = [t[0] for t in turn]
        cells += [f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f} to {max(seconds):.3f}"]
        cells += [f"{statistics.median(t[1] for t in turn):.3f}"]
        cells += [f"{relative(tensor, turn[-1][2]):.5f}"]
    ratio = f"{medians['theirs'] / medians['ours']:.1f}"
    return [str(rank), *cells, ratio, f"{first - medians['ours']:.1f}"]


def tensorly_table(ranks: Sequence[int], repeats: int) -> None:
    """Shows one row per rank, ours and TensorLy's."""
    header = ["rank", *(f"{who} {w}" for who in ("ours", "TensorLy") for w in COLUMNS)]
    header += ["× faster", "compiled, s"]
    rows = [against_tensorly(rank, repeats) for rank in ranks]
    tables.show(f"CP of {'×'.join(map(str, SHAPE))}, {SWEEPS} sweeps; seconds", (header, rows))


def all_of_vgg(rows: list[list[str]]) -> float:
    """Adds one row per convolution of VGG-16; returns the seconds of all, compilation included."""
    from groundwork import architectures
    from lowrank.choose import ranks
    from lowrank.decompositions import cp, spatial, tucker

    begun = time.perf_counter()
    module = architectures.build({"name": "vgg_16"}, 10)
    params = module.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))["params"]
    total, compiled = 0.0, set()  # compiled: shapes
    for name, layer in params.items():
        weights = layer.get("kernel")
        if weights is None or weights.ndim != 4:
            continue
        _, _, inputs, outputs = weights.shape
        rank = min(CP_RANK, math.prod(weights.shape) // max(weights.shape))
        calls = (
            lambda w=weights, k=rank: cp.decompose(jax.random.key(1), w, k, 1, CP_SWEEPS),
            lambda w=weights, i=inputs, o=outputs: tucker.kernels(w, -(-i // 2), -(-o // 2)),
            lambda w=weights, i=inputs: spatial.decompose(w, -(-3 * i // 2)),
            lambda w=weights, o=outputs: ranks.vbmf(np.reshape(w, (-1, o))),
        )
        cells = []
        for call in calls:
            seconds, _, result = timed(call)
            again, _, _ = timed(call)
            total += seconds
            cells += [f"{again:.2f}", "" if weights.shape in compiled else f"{seconds - again:.1f}"]
            cells += [f"{result.error:.3f}" if hasattr(result, "error") else str(result)]
        compiled.add(weights.shape)
        rows.append([name, "×".join(map(str, weights.shape)), *cells])
    print(f"the whole pass, both calls of each: {time.perf_counter() - begun:.1f} s")
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--ranks", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--only", choices=["tensorly", "vgg_16"])
    flags = parser.parse_args()
    load = setting.load()
    print(load, file=sys.stderr)
    if flags.only != "vgg_16":
        tensorly_table(flags.ranks, flags.repeats)
    if flags.only != "tensorly":
        columns = (f"{method} {word}" for method in METHODS for word in WORDS)
        rows: list[list[str]] = []
        total = all_of_vgg(rows)
        title = "VGG-16: seconds, seconds to compile, relative error"
        tables.show(title, (["layer", "kernel", *columns], rows))
        print(f"all layers, all four, compilation included: {total:.1f} s")
    for line in (
        f"machine: {setting.machine()}; {load}",
        f"medians of {flags.repeats} interleaved turns; CPU seconds count all threads, including "
        "those that wait busily; errors by one function, in float64",
        f"VGG-16: CP of rank {CP_RANK} (27 at most in the first layer), one start, up to "
        f"{CP_SWEEPS} sweeps; Tucker-2 and spatial at half of the channels; VBMF's column is the "
        "rank; initial weights, which no method can approximate",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
