"""The names that PyTorch's networks give to our layers, a file for each family, in two tables."""

from collections.abc import Callable
from typing import Any

from groundwork.architectures.pretrained import (
    alexnet,
    densenet,
    efficientnet,
    mobilenet,
    resnet,
    shufflenet,
    squeezenet,
    vgg_imagenet,
    xception,
)
from groundwork.architectures.pretrained.conversion import Layers

LAYERS: dict[str, Callable[[Any], Layers]] = {  # the names that `to_torch` writes
    "alexnet": alexnet.layers,
    "densenet_121": densenet.layers,
    "efficientnet_b0": efficientnet.torchvision_layers,
    "efficientnet_lite0": efficientnet.timm_layers,
    "mobilenet_v1": mobilenet.v1_layers,
    "mobilenet_v2": mobilenet.v2_layers,
    "resnet_18": resnet.layers,
    "resnet_50": resnet.layers,
    "shufflenet_v2": shufflenet.layers,
    "squeezenet_1_0": squeezenet.layers,
    "squeezenet_1_1": squeezenet.layers,
    "vgg_16_imagenet": vgg_imagenet.layers,
    "xception": xception.layers,
}
OTHERS: dict[str, tuple[Callable[[Any], Layers], ...]] = {  # further names that are read
    "densenet_121": (densenet.dotted_layers,),
    "efficientnet_b0": (efficientnet.timm_layers, efficientnet.port_layers),
    "efficientnet_lite0": (efficientnet.port_layers,),
    "mobilenet_v2": (efficientnet.timm_layers,),
}
