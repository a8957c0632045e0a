"""python -m benchmarks.structured_peers: our structured pruning beside Torch-Pruning's.

Six networks are written in JAX and in PyTorch, with the same weights. Both libraries look for units
that must go together, and remove half of each group by L2 norms; compared are the units, the
variables that are left, and the logits. Other networks are shown on which Torch-Pruning fails, or
computes something else than with zeros in place of the units. The libraries run in processes of
their own, one after the other.
"""

import argparse
import concurrent.futures
import importlib
import importlib.util
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from groundwork import terminal
from groundwork.report import tables

NETWORKS = {
    "vgg_11": "VGG-11",
    "resnet_20": "ResNet-20, 1×1 shortcuts",
    "mobile": "MobileNet-like",
    "densely": "DenseNet-like",
    "excited": "squeeze and excite",
    "attentive": "ViT block, heads and hidden units",
}
OTHERS = {
    "padded": "ResNet-20, shortcuts padded with zeros",
    "static": "ViT block, its number of heads in a reshape",
    "stream": "ViT block, its stream under LayerNorm too",
    "shuffled": "channels that are shuffled",
    "transposed": "a transposed convolution",
    "recurrent": "an LSTM",
}
RATIO = 0.5


def made(module: str, function: str, calls: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Returns what a function of `benchmarks.MODULE` makes of networks, in a process of its own.

    Args:
      module: of the function.
      function: (network, *arguments) → anything.
      calls: network → the other arguments.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_all, module, function, calls).result()


def _all(module: str, function: str, calls: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    call = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    return {network: call(network, *arguments) for network, arguments in calls.items()}


def row_of(network: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Returns what both make of a network, as a row of the first table."""
    same = all(np.array_equal(ours["arrays"][p], theirs["arrays"].get(p)) for p in ours["arrays"])
    return [
        NETWORKS[network],
        f"{len(ours['units']):,}",
        _yes(ours["units"] == theirs["units"]),
        _yes(same),
        f"{ours['share']:.2f}",
        *(f"{np.abs(ours[key] - theirs[key]).max():.1e}" for key in ("whole", "logits")),
        *(f"{made['seconds']:.2f}" for made in (ours, theirs)),
    ]


def _yes(truth: bool) -> str:
    return "the same" if truth else "DIFFERENT"


def other_row_of(network: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Returns what becomes of a network, as a row of the second table."""
    cells = [OTHERS[network]]
    for made in (ours, theirs):
        cells += [f"{made['left']:.2f}" if made["left"] else "", made["said"]]
    return cells


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, *OTHERS])
    flags = parser.parse_args()
    chosen = flags.networks or [*NETWORKS, *OTHERS]
    if importlib.util.find_spec("torch_pruning") is None:
        sys.exit("Torch-Pruning is missing: see benchmarks/README.md")
    load = setting.load()
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    both, others = ([n for n in table if n in chosen] for table in (NETWORKS, OTHERS))
    ours = made("structured_jax_pruning", "compared", dict.fromkeys(chosen, (images, RATIO)))
    module = "structured_torch_pruning"
    theirs = made(module, "compared", {n: (ours[n]["given"], images, RATIO) for n in both})
    theirs |= made(module, "tried", dict.fromkeys(others, (images, RATIO)))
    header = ["network", "units", "groups", "variables left", "× multiply-adds", "logits: whole"]
    header += ["pruned", "analysis, s: ours", "theirs"]
    rows = [row_of(network, ours[network], theirs[network]) for network in both]
    tables.show("half of the units go, by L2 norms", (header, rows))
    header = ["network", "× parameters", "ours", "× parameters", "Torch-Pruning"]
    rows = [other_row_of(network, ours[network], theirs[network]) for network in others]
    tables.show("pruned networks beside zeros in place of the units", (header, rows))
    for line in (
        f"machine: {setting.machine()}; {load}",
        "logits: the largest distance of ours and theirs; analysis: the second of two in a process",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
