"""python -m benchmarks.sparse: predictions of pruned networks, with their zeros and without.

The networks are LeNet-300-100 at several densities and patterns and VGG-11 at a density of 0.1, as
they were initialised, pruned by magnitude. Contestants are `predictor` with `sparse=True` and as it
is, XLA, onnxruntime and LiteRT, on as many threads as there are processors. Each lives in a process
of its own, and they run alone, in turns. A turn is of single calls, or of one compiled loop.

With `--crossover`, layers of one size after another are timed alone, dense and sparse: where the
rules of `groundwork/architectures/cpu/sparse.py` ought to lie.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting, sparse_crossover
from benchmarks.convolution import Contestant, started
from groundwork import terminal
from groundwork.report import tables

NETWORKS = (  # name, density, pattern
    *(("lenet_300_100", density, "any") for density in ("0.05", "0.1", "0.2")),
    ("lenet_300_100", "0.1", "1x4"),
    ("lenet_300_100", "0.5", "2:4"),
    ("vgg_11", "0.1", "any"),
    ("vgg_11", "0.1", "1x4"),
)
STEPS = {  # of a turn, by network and batch
    ("lenet_300_100", 1): 400,
    ("lenet_300_100", 128): 100,
    ("vgg_11", 1): 24,
    ("vgg_11", 128): 8,
}
BY = {
    "ours: sparse": "sparse",
    "ours: dense": "dense",
    "ours: jax.jit": "jit",
    "onnxruntime": "onnxruntime",
    "LiteRT": "litert",
}


def rows_of(
    network: tuple[str, str, str], batch: int, repeats: int, by: list[str]
) -> list[list[str]]:
    """Returns one row per contestant; × says how many times the sparse one's median it takes."""
    name, density, pattern = network
    turn = dict.fromkeys(("loop", "call"), STEPS[name, batch])
    options = {"density": density, "pattern": pattern}
    whos = [Contestant(label, "sparse_jax", {"by": BY[label], **options}) for label in by]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(started(who, name, batch, turn)) for who in whos]
        times: list[dict[str, list[float]]] = [{what: [] for what in turn} for _ in workers]
        for _ in range(repeats):
            for (once, _), found in zip(workers, times, strict=True):
                for what in turn:
                    found[what].append(1e6 * once(what)[0])
    rows = []
    for label, found in zip(by, times, strict=True):
        cells = []
        for what, taken in found.items():
            median, first = statistics.median(taken), statistics.median(times[0][what])
            cells += [f"{median:.1f}", f"{min(taken):.1f}", f"{median / first:.2f}"]
        rows.append([name, density, pattern, str(batch), label, *cells])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--networks", nargs="+", type=int, help="numbers of rows, from 0")
    parser.add_argument("--batches", nargs="+", type=int, choices=(1, 128), default=[1, 128])
    parser.add_argument("--contestants", nargs="+", choices=BY, default=list(BY))
    parser.add_argument("--crossover", action="store_true", help="time layers, dense and sparse")
    flags = parser.parse_args()
    load, rows = setting.load(), []
    if flags.crossover:
        tables.show("microseconds of a layer", sparse_crossover.rows(flags.repeats), keys=4)
        terminal.say(f"machine: {setting.machine()}; {load}")
        return
    for label, module in (("onnxruntime", "onnxruntime"), ("LiteRT", "ai_edge_litert")):
        if label in flags.contestants and importlib.util.find_spec(module) is None:
            sys.exit(f"{module} is missing: leave it out of --contestants, or install it")
    for number in flags.networks or range(len(NETWORKS)):
        for batch in flags.batches:
            rows += rows_of(NETWORKS[number], batch, flags.repeats, flags.contestants)
            print(*rows[-len(flags.contestants) :], sep="\n", file=sys.stderr)
    header = ["network", "density", "pattern", "examples", ""]
    header += ["loop: µs", "least", "×", "call: µs", "least", "×"]
    tables.show("microseconds of a prediction, in turns", (header, rows), keys=5)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"medians of {flags.repeats} turns; × is the multiple of the first contestant's")


if __name__ == "__main__":
    main()
