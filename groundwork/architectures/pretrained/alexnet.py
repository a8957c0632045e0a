"""AlexNet in one tower as torchvision names it."""

from groundwork.architectures.alexnet import CHANNELS, AlexNet
from groundwork.architectures.initializers import scaled
from groundwork.architectures.pretrained.conversion import Named

PLACES = (0, 3, 6, 8, 10)  # of the convolutions among torchvision's `features`


def layers(module: AlexNet) -> dict[str, str | Named]:
    """Returns path of our layer → PyTorch's name."""
    names: dict[str, str | Named] = {
        f"conv{number}": f"features.{place}" for number, place in enumerate(PLACES, 1)
    }
    channels = module.towers * scaled(CHANNELS[module.towers][-1] // module.towers, module.width)
    names["fc1"] = Named("classifier.1", channels)
    return {**names, "fc2": "classifier.4", "output": "classifier.6"}
