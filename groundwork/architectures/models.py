"""The networks that a config can name, each with its module, in one literal table.

A module takes `classes`, `width` and `dtype`. Its class attribute `settings` names what else of it
a config may set in `model.kwargs`, and `widths` the multipliers that it has, if it has no others.
"""

from collections.abc import Callable

import flax.linen as nn

from groundwork.architectures.compact.squeezedet import SqueezeDet, SqueezeDetSmall
from groundwork.architectures.compact.squeezenet import (
    SqueezeNet10,
    SqueezeNet10Small,
    SqueezeNet11,
    SqueezeNet11Small,
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
    "squeezedet": SqueezeDet,
    "squeezedet_small": SqueezeDetSmall,
    "squeezenet_1_0": SqueezeNet10,
    "squeezenet_1_0_small": SqueezeNet10Small,
    "squeezenet_1_1": SqueezeNet11,
    "squeezenet_1_1_small": SqueezeNet11Small,
    "student_net": StudentNet,
    "vgg_11": VGG11,
    "vgg_13": VGG13,
    "vgg_16": VGG16,
    "vgg_19": VGG19,
}
