"""python -m benchmarks.dense: products of matrices and epochs of LeNet-300-100, by who computes.

The products are those of a training step (forward, and the gradients of weights and of inputs) and
one of 512 × 512 × 512, in float32 and bfloat16, by XLA, oneDNN, numpy's BLAS and PyTorch; the
epochs are those of `benchmarks.lottery_epoch`, in both types. Each contestant lives in a process of
its own, and they run alone, in turns.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import lottery_epoch, setting
from benchmarks.convolution import Contestant, started
from benchmarks.dense_products import COPIES, PRODUCTS
from groundwork import terminal
from groundwork.report import tables

REPEATS = 20  # of `COPIES` products, in each turn
BY = {"float32": ("xla", "onednn", "numpy", "torch"), "bfloat16": ("xla", "onednn", "torch")}


def rates(name: str, turns: int) -> list[list[str]]:
    """Returns a row of GFLOP/s for each product, and one for all together, by `BY`."""
    who = [(dtype, by) for dtype, all_by in BY.items() for by in all_by]
    sizes, turn = PRODUCTS[name], {str(place): REPEATS for place in range(len(PRODUCTS[name]))}
    with contextlib.ExitStack() as stack:
        workers = []
        for dtype, by in who:
            one = Contestant(by, "dense_products", {"by": by, "dtype": dtype})
            workers.append(stack.enter_context(started(one, name, 0, turn))[0])
        seconds = [
            {what: [once(what)[0] / COPIES for _ in range(turns)] for what in turn}
            for once in workers
        ]
    rows = []
    for place, one in enumerate(sizes):
        medians = [statistics.median(found[str(place)]) for found in seconds]
        shape = f"{one.rows}×{one.inner}×{one.columns}"
        rows.append([shape, *(f"{2e-9 * one.multiply_adds / s:.0f}" for s in medians)])
    total = [sum(statistics.median(found[what]) for what in turn) for found in seconds]
    if len(sizes) > 1:
        flops = 2e-9 * sum(one.multiply_adds for one in sizes)
        rows.append(["all of a step", *(f"{flops / s:.0f}" for s in total)])
    return rows


def epochs(folder: str, repeats: int) -> list[list[str]]:
    """Returns the rows of LeNet-300-100's epochs."""
    entered = []
    for dtype in BY:
        ours = {"replicates": 3, "dtype": dtype}
        entered.append(
            lottery_epoch.Contestant("ours", f"ours, {dtype}", "jax_steps", "make", ours)
        )
        theirs = {"examples": lottery_epoch.EXAMPLES, "fused": True, "dtype": dtype}
        label = f"PyTorch, {dtype}"
        entered.append(lottery_epoch.Contestant("a", label, "torch_loops", "in_memory", theirs))
    results = lottery_epoch.measure(entered, folder, repeats)
    first = results[0].median / results[0].replicates
    rows = []
    for result in results:
        each = result.median / result.replicates
        spread = f"{min(result.seconds):.3f} to {max(result.seconds):.3f}"
        rows.append([result.who.label, f"{result.median:.3f}", spread, f"{each:.3f}"])
        rows[-1].append(f"{each / first:.2f}")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=setting.FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    flags = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is missing: pip install -r requirements-benchmarks.txt")
    load = setting.load()
    header = ["M×K×N", *(f"{by}, {dtype}" for dtype, all_by in BY.items() for by in all_by)]
    for name in PRODUCTS:
        tables.show(f"GFLOP/s of products: {name}", (header, rates(name, flags.repeats)))
    with setting.fashion_mnist(flags.data_dir) as (folder, data):
        rows = epochs(folder, flags.repeats)
    header = ["", "s/epoch", "lowest to highest", "s/epoch/replicate", "× ours, float32"]
    tables.show("one epoch of LeNet-300-100; ours has 3 replicates", (header, rows))
    for line in (
        f"data: {data}",
        f"machine: {setting.machine()}; {load}",
        f"medians of {flags.repeats} turns; products are computed {REPEATS * COPIES} times in each",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
