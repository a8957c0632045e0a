"""Xception as timm names it."""

from groundwork.architectures.compact.xception import BLOCKS, Xception


def layers(module: Xception) -> dict[str, str]:
    """Returns path of our layer → timm's name, of `legacy_xception`."""
    del module  # all have the same layers
    names = {
        f"{layer}{number}": f"{layer}{number}" for layer in ("conv", "bn") for number in (1, 2)
    }
    names["output"] = "fc"
    for number in (3, 4):
        names[f"depthwise{number}"] = f"conv{number}.conv1"
        names[f"pointwise{number}"] = f"conv{number}.pointwise"
        names[f"bn{number}"] = f"bn{number}"
    for block, (channels, _) in enumerate(BLOCKS, 1):
        place = 0 if block == 1 else 1  # in a list with ReLU before all but the first convolution
        for number in range(1, len(channels) + 1):
            theirs = f"block{block}.rep.{place}"
            names[f"block{block}/depthwise{number}"] = f"{theirs}.conv1"
            names[f"block{block}/pointwise{number}"] = f"{theirs}.pointwise"
            names[f"block{block}/bn{number}"] = f"block{block}.rep.{place + 1}"
            place += 3
        names[f"block{block}/shortcut"] = f"block{block}.skip"
        names[f"block{block}/shortcut_bn"] = f"block{block}.skipbn"
    return names
