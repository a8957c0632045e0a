"""The networks that a config can name, each with its module, in one literal table.

A module takes `classes`, `width` and `dtype`. Its class attribute `settings` names what else of it
a config may set in `model.kwargs`, and `widths` the multipliers that it has, if it has no others.
"""

from collections.abc import Callable

import flax.linen as nn

from groundwork.architectures.compact.efficientnet import (
    EfficientNetB0,
    EfficientNetB0Small,
    EfficientNetLite0,
    EfficientNetLite0Small,
)
from groundwork.architectures.compact.student_net import StudentNet
from groundwork.architectures.lenet import LeNet5, LeNet300100
from groundwork.architectures.mlp import ResidualMLP
from groundwork.architectures.plain_conv import Conv2, Conv4, Conv6
from groundwork.architectures.resnet import ResNet20, ResNet32, ResNet56
from groundwork.architectures.resnet_imagenet import (
    ResNet18,
    ResNet18Small,
    ResNet50,
    ResNet50Small,
)
from groundwork.architectures.vgg import VGG11, VGG13, VGG16, VGG19

MODELS: dict[str, Callable[..., nn.Module]] = {
    "conv_2": Conv2,
    "conv_4": Conv4,
    "conv_6": Conv6,
    "efficientnet_b0": EfficientNetB0,
    "efficientnet_b0_small": EfficientNetB0Small,
    "efficientnet_lite0": EfficientNetLite0,
    "efficientnet_lite0_small": EfficientNetLite0Small,
    "lenet_300_100": LeNet300100,
    "lenet_5": LeNet5,
    "residual_mlp": ResidualMLP,
    "resnet_18": ResNet18,
    "resnet_18_small": ResNet18Small,
    "resnet_20": ResNet20,
    "resnet_32": ResNet32,
    "resnet_50": ResNet50,
    "resnet_50_small": ResNet50Small,
    "resnet_56": ResNet56,
    "student_net": StudentNet,
    "vgg_11": VGG11,
    "vgg_13": VGG13,
    "vgg_16": VGG16,
    "vgg_19": VGG19,
}
