"""SqueezeNet 1.0 and 1.1 as torchvision names them; it has no bypasses."""

from groundwork.architectures.compact.squeezenet import FIRES, SqueezeNet


def layers(module: SqueezeNet) -> dict[str, str]:
    """Returns path of our layer → PyTorch's name."""
    names = {"conv1": "features.0", "output": "classifier.1"}
    place = 2  # after the first convolution and its ReLU
    for number in FIRES:
        place += number - 1 in module.pooled
        for part in ("squeeze", "expand1x1", "expand3x3"):
            names[f"fire{number}/{part}"] = f"features.{place}.{part}"
        place += 1
    return names
