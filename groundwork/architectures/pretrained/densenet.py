"""DenseNet-121 as torchvision names it."""

from groundwork.architectures.densenet import DenseNet


def layers(module: DenseNet) -> dict[str, str]:
    """Returns path of our layer → PyTorch's name."""
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
                names[f"block{block}_{layer}/conv{number}"] = f"{theirs}.conv{number}"
                names[f"block{block}_{layer}/bn{number}"] = f"{theirs}.norm{number}"
    return names
