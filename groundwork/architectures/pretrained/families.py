"""The names that PyTorch's networks give to our layers, a file for each family, in two tables."""

from collections.abc import Callable
from typing import Any

from groundwork.architectures.pretrained import efficientnet, resnet
from groundwork.architectures.pretrained.conversion import Layers

LAYERS: dict[str, Callable[[Any], Layers]] = {  # the names that `to_torch` writes
    "efficientnet_b0": efficientnet.torchvision_layers,
    "efficientnet_lite0": efficientnet.timm_layers,
    "resnet_18": resnet.layers,
    "resnet_50": resnet.layers,
}
OTHERS: dict[str, tuple[Callable[[Any], Layers], ...]] = {  # further names that are read
    "efficientnet_b0": (efficientnet.timm_layers, efficientnet.port_layers),
    "efficientnet_lite0": (efficientnet.port_layers,),
}
