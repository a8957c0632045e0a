"""MobileNet v1 as timm names it, and v2 as torchvision does; timm's v2 is as its EfficientNet."""

from groundwork.architectures.compact.mobilenet import MobileNetV1, MobileNetV2


def v1_layers(module: MobileNetV1) -> dict[str, str]:
    """Returns path of our layer → timm's name, of `mobilenetv1_100`."""
    names = {"conv1": "conv_stem", "bn1": "bn1", "output": "classifier"}
    inside = {
        "depthwise": "conv_dw",
        "depthwise_bn": "bn1",
        "pointwise": "conv_pw",
        "pointwise_bn": "bn2",
    }
    for stage, blocks in enumerate(module.blocks(), 1):
        for block in range(1, blocks + 1):
            for ours, theirs in inside.items():
                names[f"block{stage}_{block}/{ours}"] = f"blocks.{stage - 1}.{block - 1}.{theirs}"
    return names


def v2_layers(module: MobileNetV2) -> dict[str, str]:
    """Returns path of our layer → torchvision's name, of `mobilenet_v2`."""
    names, done = {"conv1": "features.0.0", "bn1": "features.0.1", "output": "classifier.1"}, 0
    for number, stage in enumerate(module.stages(), 1):
        for block in range(1, stage.blocks + 1):
            done += 1
            ours, theirs = f"block{number}_{block}", f"features.{done}.conv"
            parts = (["expand"] if stage.expansion > 1 else []) + ["depthwise"]
            for place, part in enumerate(parts):
                names[f"{ours}/{part}"] = f"{theirs}.{place}.0"
                names[f"{ours}/{part}_bn"] = f"{theirs}.{place}.1"
            names[f"{ours}/project"] = f"{theirs}.{len(parts)}"
            names[f"{ours}/project_bn"] = f"{theirs}.{len(parts) + 1}"
    return names | {"conv2": f"features.{done + 1}.0", "bn2": f"features.{done + 1}.1"}
