"""python -m benchmarks.lottery_epoch: one epoch of LeNet-300-100, ours beside PyTorch's.

The batch is 128, the optimiser Adam 1.2e-3, and there are 55,000 training examples of Fashion-MNIST
(429 steps). Each contestant lives in a process of its own and runs alone, in turns with the others;
JAX and PyTorch never share a process. The table has medians and their ratios, relative to the
fastest variant of each PyTorch loop.
"""

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

EXAMPLES, BATCH = 55_000, 128
EPOCH_STEPS = EXAMPLES // BATCH
SLOW_REPEATS = 3  # of the loops that load example by example


class Contestant(NamedTuple):
    """Who runs: `benchmarks.MODULE.MAKE(folder, **options)` returns steps → None."""

    group: str  # ours, a or b
    label: str
    module: str
    make: str
    options: dict[str, Any]
    steps: int = EPOCH_STEPS  # measured, and scaled to an epoch


class Measured(NamedTuple):
    """The measurements of one contestant."""

    who: Contestant
    seconds: list[float]  # of an epoch, one entry per repeat
    peak_bytes: int  # resident, of the process that trains

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def replicates(self) -> int:
        return self.who.options.get("replicates", 1)


def contestants(share: float) -> list[Contestant]:
    """Returns all contestants; (b) are measured on a share of an epoch."""
    slow_steps = max(1, round(share * EPOCH_STEPS))
    entered = [
        Contestant("ours", f"ours, R = {r}", "jax_steps", "make", {"replicates": r}) for r in (1, 3)
    ]
    bare = {"replicates": 3, "enforced": False}
    entered.append(Contestant("ours", "ours, R = 3, not enforced", "jax_steps", "make", bare))
    for form in ("single", "foreach", "fused"):
        options = {"examples": EXAMPLES, **({} if form == "single" else {form: True})}
        label = f"(a) tensors, Adam {form}"
        entered.append(Contestant("a", label, "torch_loops", "in_memory", options))
    for workers in (0, 2):
        options = {"examples": slow_steps * BATCH, "workers": workers}
        label = f"(b) DataLoader, {workers} workers"
        entered.append(Contestant("b", label, "torch_loops", "per_example", options, slow_steps))
    return entered


def serve(pipe: Connection, who: Contestant, folder: str) -> None:
    """In the contestant's process: build, warm up, answer each request until the pipe closes."""
    module = importlib.import_module(f"benchmarks.{who.module}")
    run = getattr(module, who.make)(folder, **who.options)
    run(who.steps)
    assert not {"jax", "torch"} <= sys.modules.keys(), "one process, one framework"
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while pipe.recv():
            begun = time.perf_counter()
            run(who.steps)
            seconds = (time.perf_counter() - begun) * EPOCH_STEPS / who.steps
            pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


@contextlib.contextmanager
def started(who: Contestant, folder: str) -> Iterator[Callable[[], tuple[float, int]]]:
    """Gives a call that runs a warm process once → seconds of an epoch, peak bytes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, who, folder))
    process.start()
    theirs.close()

    def once() -> tuple[float, int]:
        ours.send("run")
        return ours.recv()

    try:
        ours.recv()  # an EOFError if the process has failed, after its traceback
        yield once
    finally:
        ours.close()
        process.join()


def measure(entered: list[Contestant], folder: str, repeats: int) -> list[Measured]:
    """Starts all contestants, one after the other, then lets them take turns."""
    results: list[list[tuple[float, int]]] = [[] for _ in entered]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(started(who, folder)) for who in entered]
        for repeat in range(repeats):
            for who, once, result in zip(entered, workers, results, strict=True):
                if who.group != "b" or repeat < SLOW_REPEATS:
                    result.append(once())
    return [
        Measured(who, [seconds for seconds, _ in result], result[-1][1])
        for who, result in zip(entered, results, strict=True)
    ]


def table(results: list[Measured]) -> None:
    """Shows one row per contestant; ratios are relative to the fastest (a) and (b)."""
    best = {g: min(r.median for r in results if r.who.group == g) for g in ("a", "b")}
    best["default"] = next(r.median for r in results if r.who.label.endswith("single"))
    header = ["", "s/epoch", "lowest to highest", "s/epoch/replicate", "× (a)", "× default"]
    header += ["× (b)", "peak GB"]
    rows = []
    for result in results:
        each = result.median / result.replicates
        rows.append(
            [
                result.who.label,
                f"{result.median:.3f}",
                f"{min(result.seconds):.3f} to {max(result.seconds):.3f}",
                f"{each:.3f}",
                *(f"{best[group] / each:.2f}" for group in ("a", "default", "b")),
                f"{result.peak_bytes / 1e9:.2f}",
            ]
        )
    tables.show("One epoch of LeNet-300-100, batch 128, Adam, 55,000 examples", (header, rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=setting.FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each (b: at most 3)")
    parser.add_argument("--share", type=float, default=0.25, help="of an epoch, measured of (b)")
    flags = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is missing: pip install -r requirements-benchmarks.txt")
    load = setting.load()
    print(f"{load}; about a minute", file=sys.stderr)
    with setting.fashion_mnist(flags.data_dir) as (folder, data):
        results = measure(contestants(flags.share), folder, flags.repeats)
    table(results)
    slow = min(flags.repeats, SLOW_REPEATS)
    for line in (
        f"data: {data}",
        f"machine: {setting.machine()}; {load}",
        f"medians of {flags.repeats} interleaved repeats; (b) of {slow}, each {flags.share:g} of "
        "an epoch, scaled; × (a) and × (b): a replicate, against the fastest variant of each",
        "× default: against (a) with torch.optim.Adam's defaults (single)",
        "ours: mask in the state, half of the weights pruned; PyTorch, (a) and (b): dense, no mask",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
