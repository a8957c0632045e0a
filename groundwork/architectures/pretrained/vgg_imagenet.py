"""VGG-16 as torchvision's `vgg16` names it."""

from groundwork.architectures.initializers import scaled
from groundwork.architectures.pretrained.conversion import Named
from groundwork.architectures.vgg_imagenet import CHANNELS, GROUPS, VGG16ImageNet


def layers(module: VGG16ImageNet) -> dict[str, str | Named]:
    """Returns path of our layer → PyTorch's name."""
    names: dict[str, str | Named] = {}
    place = 0
    for group, convolutions in enumerate(GROUPS, 1):
        for layer in range(1, convolutions + 1):
            names[f"conv{group}_{layer}"] = f"features.{place}"
            place += 2  # the ReLU after it has a place as well
        place += 1  # and so has the pooling
    names["fc1"] = Named("classifier.0", scaled(CHANNELS[-1], module.width))
    return {**names, "fc2": "classifier.3", "output": "classifier.6"}
