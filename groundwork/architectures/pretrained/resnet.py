"""ResNet-18 and -50 as torchvision and timm name them."""

from groundwork.architectures.resnet_imagenet import ResNetImageNet


def layers(module: ResNetImageNet) -> dict[str, str]:
    """Returns path of our layer → PyTorch's name."""
    names = {"conv1": "conv1", "bn1": "bn1", "output": "fc"}
    inside = range(1, 4 if module.bottleneck else 3)
    for stage, blocks in enumerate(module.blocks, 1):
        for block in range(1, blocks + 1):
            ours, theirs = f"block{stage}_{block}", f"layer{stage}.{block - 1}"
            for number in inside:
                names[f"{ours}/conv{number}"] = f"{theirs}.conv{number}"
                names[f"{ours}/bn{number}"] = f"{theirs}.bn{number}"
            names[f"{ours}/shortcut"] = f"{theirs}.downsample.0"
            names[f"{ours}/shortcut_bn"] = f"{theirs}.downsample.1"
    return names
