"""ShuffleNet v2 as torchvision names it."""

from groundwork.architectures.compact.shufflenet import BLOCKS, ShuffleNetV2


def layers(module: ShuffleNetV2) -> dict[str, str]:
    """Returns path of our layer → torchvision's name, of `shufflenet_v2_x0_5` to `_x2_0`."""
    del module  # all widths have the same layers
    names = {"conv1": "conv1.0", "bn1": "conv1.1", "conv5": "conv5.0", "bn5": "conv5.1"}
    names["output"] = "fc"
    places = {
        "shortcut_depthwise": "branch1.0",
        "shortcut_depthwise_bn": "branch1.1",
        "shortcut_pointwise": "branch1.2",
        "shortcut_pointwise_bn": "branch1.3",
        "pointwise1": "branch2.0",
        "pointwise1_bn": "branch2.1",
        "depthwise": "branch2.3",
        "depthwise_bn": "branch2.4",
        "pointwise2": "branch2.5",
        "pointwise2_bn": "branch2.6",
    }
    for stage, blocks in enumerate(BLOCKS, 2):
        for block in range(1, blocks + 1):
            for ours, theirs in places.items():
                names[f"block{stage}_{block}/{ours}"] = f"stage{stage}.{block - 1}.{theirs}"
    return names
