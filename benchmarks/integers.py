"""python -m benchmarks.integers: predictions in 8-bit integers, side by side with floats.

The networks are ResNet-20, MobileNet v2 and VGG-11 on random images of 32×32×3, with 1 and 128
images, and as many threads as there are processors. Ours reads a `.cna` file with 8-bit kernels and
inputs by `compress.load(path, compute="int8")`; the predictor computes the network in float32.
onnxruntime runs what `deploy` exports, as floats and as integers: QuantizeLinear and
DequantizeLinear stand beside each operation, and onnxruntime makes operations of integers of them.
Each contestant lives in a process of its own, and they run alone, in turns.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from benchmarks.convolution import Contestant
from benchmarks.predictions import STEPS, rows_of
from groundwork import terminal
from groundwork.architectures.cpu import integers, library
from groundwork.report import tables

NETWORKS = ("resnet_20", "mobilenet_v2_small", "vgg_11")
CONTESTANTS = (
    Contestant("ours: int8", "integers_jax", {"by": "int8"}),
    Contestant("ours: float32", "predictions_jax", {"by": "predictor"}),
    Contestant("onnxruntime: int8", "integers_jax", {"by": "onnxruntime"}),
    Contestant("onnxruntime: float32", "predictions_jax", {"by": "onnxruntime"}),
)
FORMS = {
    0: "jax.lax, which is slow (make cpu builds what is fast)",
    1: "AVX-512BW, of 16 bits",
    2: "VNNI, of 8 bits",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, choices=STEPS, default=list(STEPS))
    flags = parser.parse_args()
    if importlib.util.find_spec("onnxruntime") is None:
        sys.exit("onnxruntime is missing: pip install -r requirements-deploy.txt")
    load, rows = setting.load(), []
    for network in flags.networks:
        for batch in flags.batches:
            rows += rows_of(network, batch, flags.repeats, CONTESTANTS)
            print(f"{network}, {batch}: measured", file=sys.stderr)
    header = ["network", "images", "", "ms", "lowest to highest", "× ours"]
    tables.show("milliseconds of a call, in turns", (header, rows), keys=3)
    terminal.say(f"machine: {setting.machine()}; {load}")
    terminal.say(f"our products: by {FORMS[integers.fastest()]}; floats: {library.about()}")
    terminal.say(f"medians of {flags.repeats} turns of {STEPS} calls, by the number of images")


if __name__ == "__main__":
    main()
