"""python -m benchmarks.convolution: steps of convolutional networks by oneDNN, XLA and PyTorch.

The networks are ResNet-20 (batch 128), Conv-4 (batch 60), a depthwise-separable network (batch
128), MSDNet (64), MobileNet v2 (64) and ShuffleNet v1 with three groups (64) on random images of
32×32×3, float32, without dropout; measured are a training step (forward,
backward, SGD with momentum) and a forward pass. Each contestant lives in a process of its own, and
they run alone, in turns.
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
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

NETWORKS = {  # name → batch
    "resnet_20": 128,
    "conv_4": 60,
    "separable": 128,
    "msdnet": 64,
    "mobilenet_v2_small": 64,
    "shufflenet_v1_small": 64,
}
STEPS = {"train": 10, "infer": 10}  # in each turn; ours takes the ten training steps in one call


class Contestant(NamedTuple):
    """Who runs: `benchmarks.MODULE.make(network, batch, **options)`."""

    label: str
    module: str
    options: dict[str, str]


CONTESTANTS = (
    Contestant("oneDNN, steps in a loop", "convolution_jax", {"by": "onednn", "form": "scan"}),
    Contestant("XLA, a step a call", "convolution_jax", {"by": "xla", "form": "calls"}),
    Contestant("PyTorch, channels last", "convolution_torch", {}),
)
Once = Callable[[str], tuple[float, float]]  # what → seconds and CPU seconds of a step


def serve(
    pipe: Connection, who: Contestant, network: str, batch: int, turn: dict[str, int]
) -> None:
    """In the contestant's process: build, warm up, answer each request until the pipe closes."""
    module = importlib.import_module(f"benchmarks.{who.module}")
    run, compiled_seconds = module.make(network, batch, **who.options)
    for what, steps in turn.items():
        for _ in range(2):  # the first result lies on the mesh, so that the second call compiles
            run(what, steps)
    assert not {"jax", "torch"} <= sys.modules.keys(), "one process, one framework"
    pipe.send(compiled_seconds)
    with contextlib.suppress(EOFError):
        while what := pipe.recv():
            busy, begun = _cpu_seconds(), time.perf_counter()
            run(what, turn[what])
            seconds = time.perf_counter() - begun
            pipe.send((seconds / turn[what], (_cpu_seconds() - busy) / turn[what]))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def started(
    who: Contestant, network: str, batch: int, turn: dict[str, int]
) -> Iterator[tuple[Once, float | None]]:
    """Gives a call that runs one turn in a warm process, and seconds to compile 100 steps' scan."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, who, network, batch, turn))
    process.start()
    theirs.close()

    def once(what: str) -> tuple[float, float]:
        ours.send(what)
        return ours.recv()

    try:
        yield once, ours.recv()  # an EOFError if the process has failed, after its traceback
    finally:
        ours.close()
        process.join()


def measure(
    network: str, repeats: int, contestants: Sequence[Contestant] = CONTESTANTS
) -> list[tuple[Contestant, float | None, dict[str, Any]]]:
    """Returns, for each contestant, seconds to compile, and those of each turn by what it did."""
    with contextlib.ExitStack() as stack:
        batch = NETWORKS[network]
        workers = [stack.enter_context(started(who, network, batch, STEPS)) for who in contestants]
        turns: list[dict[str, Any]] = [{what: [] for what in STEPS} for _ in workers]
        for _ in range(repeats):
            for what in STEPS:
                for (once, _), turn in zip(workers, turns, strict=True):
                    turn[what].append(once(what))
    compiled = [seconds for _, seconds in workers]
    return list(zip(contestants, compiled, turns, strict=True))


def rows_of(network: str, results: list[tuple[Contestant, float | None, Any]]) -> list[list[str]]:
    """Returns one row per contestant; × says how many times PyTorch's median it takes."""
    *_, (_, _, torch) = results
    medians = {w: statistics.median(s for s, _ in torch[w]) for w in STEPS}
    rows = []
    for who, compiled, turns in results:
        cells = []
        for what in STEPS:
            seconds = [s for s, _ in turns[what]]
            median = statistics.median(seconds)
            busy = statistics.median(busy for _, busy in turns[what])
            cells += [f"{1e3 * median:.0f}", f"{1e3 * min(seconds):.0f}", f"{1e3 * busy:.0f}"]
            cells.append(f"{median / medians[what]:.2f}")
        rows.append([network, who.label, *cells, f"{compiled:.1f}" if compiled else ""])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--without-xla", action="store_true", help="leave XLA out, the slowest")
    flags = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is missing: pip install -r requirements-benchmarks.txt")
    contestants = [who for who in CONTESTANTS if not (flags.without_xla and "XLA" in who.label)]
    load = setting.load()
    print(load, file=sys.stderr)
    header = ["network", "", "train", "low", "cpu", "×", "infer", "low", "cpu", "×"]
    header.append("scan of 100 steps compiled, s")
    rows = []
    for network in flags.networks:
        rows += rows_of(network, measure(network, flags.repeats, contestants))
    tables.show("ms/step: median, lowest, CPU time; × PyTorch's median", (header, rows), keys=2)
    for line in (
        f"machine: {setting.machine()}; {load}",
        f"medians of {flags.repeats} interleaved turns of {STEPS} steps; CPU time counts all "
        "threads, including those that wait busily",
        f"batches: {NETWORKS}; images 32×32×3; float32",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
