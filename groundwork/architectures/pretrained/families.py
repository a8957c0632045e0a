"""The names that PyTorch's networks give to our layers, a file for each family, in one table."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from groundwork.architectures.pretrained import (
    efficientnet,
    mobilenet,
    resnet,
    shufflenet,
    xception,
)
from groundwork.architectures.pretrained.conversion import Named

Naming = Callable[[Any], Mapping[str, str | Named]]  # module → path of our layer → PyTorch's name

LAYERS: dict[str, Naming] = {
    "efficientnet_b0": efficientnet.torchvision_layers,
    "efficientnet_lite0": efficientnet.timm_layers,
    "mobilenet_v1": mobilenet.v1_layers,
    "mobilenet_v2": mobilenet.v2_layers,
    "resnet_18": resnet.layers,
    "resnet_50": resnet.layers,
    "shufflenet_v2": shufflenet.layers,
    "xception": xception.layers,
}

OTHERS: dict[str, tuple[Naming, ...]] = {  # of the same network, that files are read in as well
    "efficientnet_b0": (efficientnet.timm_layers, efficientnet.port_layers),
    "efficientnet_lite0": (efficientnet.port_layers,),
    "mobilenet_v2": (efficientnet.timm_layers,),
}


def naming(name: str, module: Any, tensors: Iterable[str]) -> Mapping[str, str | Named]:
    """Returns path of our layer → PyTorch's name, in the naming that most of the tensors have.

    Args:
      name: of the network.
      module: that was built by it.
      tensors: names, such as `_conv_stem.weight`.
    """
    there = {tensor.rpartition(".")[0] for tensor in tensors}

    def shared(layers: Mapping[str, str | Named]) -> int:
        names = (one.name if isinstance(one, Named) else one for one in layers.values())
        return len(there & set(names))

    return max((one(module) for one in (LAYERS[name], *OTHERS.get(name, ()))), key=shared)
