"""python -m benchmarks.predictions: predictions by oneDNN, PyTorch and onnxruntime, side by side.

The networks are ResNet-20, VGG-11, MSDNet and MobileNet v2 on random images of 32×32×3, float32,
with 1 and 128 images, and as many threads as there are processors. PyTorch computes channels last,
as it is, with BatchNorm in the convolutions, and by `torch.compile`. Each contestant lives in a
process of its own, and they run alone, in turns.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from benchmarks.convolution import Contestant, started
from groundwork import terminal
from groundwork.report import tables

NETWORKS = ("resnet_20", "vgg_11", "msdnet", "mobilenet_v2_small")
STEPS = {1: 200, 128: 8}  # of a turn, by batch
CONTESTANTS = (
    Contestant("ours: predictor", "predictions_jax", {"by": "predictor"}),
    Contestant("ours: jax.jit", "predictions_jax", {"by": "jit"}),
    Contestant("PyTorch", "convolution_torch", {}),
    Contestant("PyTorch, fused", "convolution_torch", {"form": "fused"}),
    Contestant("PyTorch, compiled", "convolution_torch", {"form": "compiled"}),
    Contestant("onnxruntime", "predictions_jax", {"by": "onnxruntime"}),
)


def rows_of(
    network: str, batch: int, repeats: int, contestants: Sequence[Contestant] = CONTESTANTS
) -> list[list[str]]:
    """Returns one row per contestant; × says how many times the first one's median it takes."""
    turn = {"infer": STEPS[batch]}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(started(who, network, batch, turn)) for who in contestants]
        times: list[list[float]] = [[] for _ in workers]
        for _ in range(repeats):
            for (once, _), found in zip(workers, times, strict=True):
                found.append(1e3 * once("infer")[0])
    first = statistics.median(times[0])
    rows = []
    for who, found in zip(contestants, times, strict=True):
        median = statistics.median(found)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        rows.append(
            [network, str(batch), who.label, f"{median:.2f}", spread, f"{median / first:.2f}"]
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, choices=STEPS, default=list(STEPS))
    flags = parser.parse_args()
    for module, file in (("torch", "benchmarks"), ("onnxruntime", "deploy")):
        if importlib.util.find_spec(module) is None:
            sys.exit(f"{module} is missing: pip install -r requirements-{file}.txt")
    load, rows = setting.load(), []
    for network in flags.networks:
        for batch in flags.batches:
            rows += rows_of(network, batch, flags.repeats)
            print(f"{network}, {batch}: measured", file=sys.stderr)
    header = ["network", "images", "", "ms", "lowest to highest", "× ours"]
    tables.show("milliseconds of a call, in turns", (header, rows), keys=3)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"medians of {flags.repeats} turns of {STEPS} calls, by the number of images")


if __name__ == "__main__":
    main()
