"""python -m benchmarks.decompose: CP of a kernel beside TensorLy's, and all of VGG-16 in one go.

CP by alternating least squares of a 3×3×128×256 kernel, float32, 100 sweeps without early stop,
from the same starting factors: ours (which also computes errors and keeps the best, every tenth
sweep) against TensorLy's numpy backend (told to compute no error), in turns in one process. Then
every convolution of VGG-16 by CP, Tucker-2, spatial factors, and their ranks by VBMF.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `python benchmarks/decompose.py`

SHAPE = (3, 3, 128, 256)
SWEEPS = 100
CP_RANK, CP_SWEEPS = 64, 100  # of every layer of VGG-16


def kernel(seed: int) -> np.ndarray:
    """Half structure, half noise: 64 smooth windows between random directions of channels."""
    rng = np.random.default_rng(seed)
    bumps = [np.exp(-((np.arange(3)[:, None] - rng.uniform(0, 2, 64)) ** 2)) for _ in range(2)]
    structure = np.einsum(
        "hk,wk,ik,ok->hwio", *bumps, *(rng.normal(size=(n, 64)) for n in SHAPE[2:])
    )
    noise = rng.normal(size=SHAPE)
    scaled = structure / np.linalg.norm(structure) + noise / np.linalg.norm(noise)
    return scaled.astype(np.float32)


def relative(tensor: np.ndarray, factors: Any) -> float:
    """Relative error in float64, the same for both."""
    made = np.einsum(
        "hk,wk,ik,ok->hwio", *(np.asarray(f, np.float64) for f in factors), optimize=True
    )
    return float(np.linalg.norm(tensor - made) / np.linalg.norm(tensor))


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, CPU seconds of all threads, and the result."""
    busy, begun = time.process_time(), time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begun, time.process_time() - busy, result


def against_tensorly(shown: Table, rank: int, repeats: int) -> None:
    """One row: medians of interleaved turns, and both errors."""
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
    shown.add_row(str(rank), *cells, ratio, f"{first - medians['ours']:.1f}")


def all_of_vgg(shown: Table) -> float:
    """A row a convolution of VGG-16; gives the seconds of all together, compilation included."""
    from groundwork import architectures
    from lowrank.choose import ranks
    from lowrank.decompositions import cp, spatial, tucker

    begun = time.perf_counter()
    module = architectures.build({"name": "vgg_16"}, 10)
    params = module.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))["params"]
    total, seen = 0.0, set()  # shapes that are compiled
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
            seconds, _, found = timed(call)
            again, _, _ = timed(call)
            total += seconds
            cells += [f"{again:.2f}", "" if weights.shape in seen else f"{seconds - again:.1f}"]
            cells += [f"{found.error:.3f}" if hasattr(found, "error") else str(found)]
        seen.add(weights.shape)
        shown.add_row(name, "×".join(map(str, weights.shape)), *cells)
    print(f"the whole pass, both calls of each: {time.perf_counter() - begun:.1f} s")
    return total


def main() -> None:
    """Measure and print."""
    from benchmarks import setting

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--ranks", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--only", choices=["tensorly", "vgg_16"])
    flags = parser.parse_args()
    load = setting.load()
    print(load, file=sys.stderr)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if flags.only != "vgg_16":
        shown = Table(title=f"CP of {'×'.join(map(str, SHAPE))}, {SWEEPS} sweeps; seconds")
        for column in ("rank", *(f"{who} {w}" for who in ("ours", "TensorLy") for w in COLUMNS)):
            shown.add_column(column, justify="right")
        shown.add_column("× faster", justify="right")
        shown.add_column("compiled, s", justify="right")
        for rank in flags.ranks:
            against_tensorly(shown, rank, flags.repeats)
        console.print(shown)
    if flags.only != "tensorly":
        shown = Table(title="VGG-16: seconds, seconds to compile, relative error")
        for column in (
            "layer",
            "kernel",
            *(f"{m} {w}" for m in METHODS for w in WORDS),
        ):
            shown.add_column(column, justify="right", no_wrap=column == "kernel")
        total = all_of_vgg(shown)
        console.print(shown)
        print(f"all layers, all four, compilation included: {total:.1f} s")
    for line in (
        f"machine: {setting.machine()}; {load}",
        f"medians of {flags.repeats} interleaved turns; CPU seconds count all threads, those that "
        "wait busily too; errors by one function, in float64",
        f"VGG-16: CP of rank {CP_RANK} (27 at most in the first layer), one start, up to "
        f"{CP_SWEEPS} sweeps; Tucker-2 and spatial at half of the channels; VBMF's column is the "
        "rank; initial weights, where no method can be near",
    ):
        console.print(line, soft_wrap=True, highlight=False)


COLUMNS = ("s", "range", "CPU s", "error")
WORDS = ("s", "+", "error")
METHODS = ("CP", "Tucker-2", "spatial", "VBMF")


if __name__ == "__main__":
    main()
