"""DenseNet-121 as torchvision names it: its network, and the file of weights that it offers."""

from groundwork.architectures.densenet import DenseNet


def layers(module: DenseNet, dot: str = "") -> dict[str, str]:
    """Returns path of our layer → PyTorch's name, with `dot` before the numbers within a layer."""
    names = {"conv1": "features.conv0", "bn1": "features.norm0", "output": "classifier"}
    names["bn2"] = "features.norm5"
    for block, repeats in enumerate(module.blocks, 1):
        if block > 1:
            theirs = f"features.transition{block - 1}"
            names[f"transition{block - 1}"] = f"{theirs}.conv"
            names[f"transition{block - 1}_bn"] = f"{theirs}.norm"
        for layer in range(1, repeats + 1):
            theirs = f"features.denseblock{block}.denselayer{layer}"
            for number in (1, 2):
                names[f"block{block}_{layer}/conv{number}"] = f"{theirs}.conv{dot}{number}"
                names[f"block{block}_{layer}/bn{number}"] = f"{theirs}.norm{dot}{number}"
    return names


def dotted_layers(module: DenseNet) -> dict[str, str]:
    """Returns the same with the names of the older version that saved torchvision's weights."""
    return layers(module, dot=".")
