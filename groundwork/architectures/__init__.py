"""Flax modules, one file per family. `build` makes the module that a config names.

Every module is called as `module.apply(variables, inputs, train=False)` with inputs
[B, …] float32, and returns logits [B, classes].
"""

from groundwork.architectures.compact.student_net import StudentNet
from groundwork.architectures.lenet import LeNet5, LeNet300100
from groundwork.architectures.mlp import ResidualMLP
from groundwork.architectures.models import MODELS
from groundwork.architectures.plain_conv import Conv2, Conv4, Conv6
from groundwork.architectures.registry import (
    DTYPES,
    ModelSpec,
    build,
    count,
    described,
    model_spec,
    narrowed,
    section,
    shapes,
)
from groundwork.architectures.resnet import ResNet20, ResNet32, ResNet56
from groundwork.architectures.vgg import VGG11, VGG13, VGG16, VGG19

__all__ = [
    "DTYPES",
    "MODELS",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "Conv2",
    "Conv4",
    "Conv6",
    "LeNet5",
    "LeNet300100",
    "ModelSpec",
    "ResNet20",
    "ResNet32",
    "ResNet56",
    "ResidualMLP",
    "StudentNet",
    "build",
    "count",
    "described",
    "model_spec",
    "narrowed",
    "section",
    "shapes",
]
