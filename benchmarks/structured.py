"""python -m benchmarks.structured: what half of the units is worth on the clock.

VGG-11 and ResNet-20 (with 1×1 shortcuts) lose half of each group of units, which leaves a quarter
of the multiply-adds; measured are predictions of 1 and of 128 images of 32×32×3 in float32, by the
whole network, by the narrow one, and by one that was built as narrow. Ours runs by oneDNN and by
XLA, beside PyTorch with what Torch-Pruning leaves. Each contestant lives in a process of its own,
and they run alone, in turns.
"""

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

NETWORKS = ("vgg_11", "resnet_20")
FORMS = ("whole", "narrow", "built")
CALLS = {1: 40, 128: 1}  # batch → calls in each turn


class Contestant(NamedTuple):
    """Who runs: `benchmarks.MODULE.make(network, **options)`."""

    label: str
    module: str
    options: dict[str, str]


CONTESTANTS = (
    Contestant("oneDNN", "structured_jax_pruning", {"by": "onednn"}),
    Contestant("XLA", "structured_jax_pruning", {"by": "xla"}),
    Contestant("PyTorch, channels last", "structured_torch_pruning", {"layout": "channels_last"}),
    Contestant("PyTorch", "structured_torch_pruning", {"layout": "contiguous_format"}),
)
# (form, batch) → wall and CPU seconds of a call, in each turn
Turns = dict[tuple[str, int], list[tuple[float, float]]]


def serve(pipe: Connection, who: Contestant, network: str) -> None:
    """In the contestant's process: build, warm up, answer each request until the pipe closes."""
    forms: Mapping[str, Callable[[int], None]]
    forms = importlib.import_module(f"benchmarks.{who.module}").make(network, **who.options)
    for call in forms.values():
        for batch in CALLS:
            for _ in range(2):
                call(batch)
    assert not {"jax", "torch"} <= sys.modules.keys(), "one process, one framework"
    pipe.send(list(forms))
    with contextlib.suppress(EOFError):
        while True:
            form, batch = pipe.recv()
            busy, begun = time.process_time(), time.perf_counter()
            for _ in range(CALLS[batch]):
                forms[form](batch)
            seconds = time.perf_counter() - begun
            pipe.send((seconds / CALLS[batch], (time.process_time() - busy) / CALLS[batch]))


@contextlib.contextmanager
def started(who: Contestant, network: str) -> Iterator[tuple[Any, list[str]]]:
    """Gives a call (form, batch) → seconds and CPU seconds of a call in a turn, and the forms."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, who, network))
    process.start()
    theirs.close()

    def once(form: str, batch: int) -> tuple[float, float]:
        ours.send((form, batch))
        return ours.recv()

    try:
        yield once, ours.recv()  # an EOFError if the process has failed, after its traceback
    finally:
        ours.close()
        process.join()


def measure(network: str, repeats: int) -> list[Turns]:
    """Returns the turns of each contestant."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(started(who, network)) for who in CONTESTANTS]
        found: list[Turns] = [{} for _ in workers]
        for _ in range(repeats):
            for batch in CALLS:
                for (once, forms), seconds in zip(workers, found, strict=True):
                    for form in forms:
                        seconds.setdefault((form, batch), []).append(once(form, batch))
    return found


def rows_of(network: str, found: Sequence[Turns]) -> list[list[str]]:
    """Returns one row per contestant and batch: milliseconds, and ratios of medians."""
    rows = []
    for batch in CALLS:
        wall, busy = ([_medians(turns, batch, n) for turns in found] for n in (0, 1))
        torch = min(medians["narrow"] for medians in wall[-2:])
        for who, own, cpu in zip(CONTESTANTS, wall, busy, strict=True):
            cells = [f"{1e3 * own[f]:.3g}" if f in own else "" for f in FORMS]
            ratios = [own["narrow"] / own["whole"], own["narrow"] / torch]
            ratios.append(cpu["narrow"] / cpu["whole"])
            cells += [*(f"{ratio:.2f}" for ratio in ratios), f"{1e3 * cpu['narrow']:.3g}"]
            rows.append([network, str(batch), who.label, *cells])
    return rows


def _medians(turns: Turns, batch: int, which: int) -> dict[str, float]:
    """Returns form → the median of wall seconds (`which` is 0), or of CPU seconds (1)."""
    return {f: statistics.median(t[which] for t in turns[f, b]) for f, b in turns if b == batch}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    flags = parser.parse_args()
    if importlib.util.find_spec("torch_pruning") is None:
        sys.exit("Torch-Pruning is missing: pip install -r requirements-benchmarks.txt")
    load = setting.load()
    header = ["network", "images", "", *FORMS, "× whole", "× PyTorch's"]
    header += ["CPU time: × whole", "narrow"]
    rows = []
    for network in flags.networks:
        rows += rows_of(network, measure(network, flags.repeats))
    tables.show("ms/call, medians; × the faster of PyTorch's narrow ones", (header, rows), keys=3)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"medians of {flags.repeats} interleaved turns of {CALLS} calls; float32, 32×32×3")


if __name__ == "__main__":
    main()
