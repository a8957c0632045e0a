"""The names that PyTorch's networks give to our layers, a file for each family, in one table."""

from collections.abc import Callable, Mapping
from typing import Any

from groundwork.architectures.pretrained import resnet, squeezenet
from groundwork.architectures.pretrained.conversion import Named

LAYERS: dict[str, Callable[[Any], Mapping[str, str | Named]]] = {
    "resnet_18": resnet.layers,
    "resnet_50": resnet.layers,
    "squeezenet_1_0": squeezenet.layers,
    "squeezenet_1_1": squeezenet.layers,
}
