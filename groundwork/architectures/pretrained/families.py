"""The names that PyTorch's networks give to our layers, a file for each family, in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from groundwork.architectures.pretrained import alexnet, densenet, resnet, vgg_imagenet
from groundwork.architectures.pretrained.conversion import Named

LAYERS: dict[str, Callable[[Any], Mapping[str, str | Named]]] = {
    "alexnet": alexnet.layers,
    "densenet_121": densenet.layers,
    "resnet_18": resnet.layers,
    "resnet_50": resnet.layers,
    "vgg_16_imagenet": vgg_imagenet.layers,
}
