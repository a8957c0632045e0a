"""The networks that a config can name, each with its module, in one literal table.

A module takes `classes`, `width` and `dtype`. Its class attribute `settings` names what else of it
a config may set in `model.kwargs`, and `widths` the multipliers that it has, if it has no others.
"""

from collections.abc import Callable

import flax.linen as nn

from groundwork.architectures.alexnet import AlexNet, AlexNetSmall
from groundwork.architectures.compact.efficientnet import (
    EfficientNetB0,
    EfficientNetB0Small,
    EfficientNetLite0,
    EfficientNetLite0Small,
)
from groundwork.architectures.compact.mobilenet import (
    MobileNetV1,
    MobileNetV1Small,
    MobileNetV2,
    MobileNetV2Small,
)
from groundwork.architectures.compact.sep_net import SEPNet, SEPNetSmall
from groundwork.architectures.compact.shufflenet import (
    ShuffleNetV1,
    ShuffleNetV1Small,
    ShuffleNetV2,
    ShuffleNetV2Small,
)
from groundwork.architectures.compact.squeezedet import SqueezeDet, SqueezeDetSmall
from groundwork.architectures.compact.squeezenet import (
    SqueezeNet10,
    SqueezeNet10Small,
    SqueezeNet11,
    SqueezeNet11Small,
)
from groundwork.architectures.compact.student_net import StudentNet
from groundwork.architectures.compact.transferred_networks import (
    CReLUSmall,
    CyclicSmall,
    DoublySmall,
    PlainSmall,
)
from groundwork.architectures.compact.xception import Xception, XceptionSmall
from groundwork.architectures.densenet import (
    DenseNet40,
    DenseNet121,
    DenseNet121Small,
    DenseNetBC100,
)
from groundwork.architectures.lenet import LeNet5, LeNet300100
from groundwork.architectures.mlp import ResidualMLP
from groundwork.architectures.nin import NIN, NINSmall
from groundwork.architectures.plain_conv import Conv2, Conv4, Conv6
from groundwork.architectures.resnet import ResNet20, ResNet32, ResNet56
from groundwork.architectures.resnet_imagenet import (
    ResNet18,
    ResNet18Small,
    ResNet50,
    ResNet50Small,
)
from groundwork.architectures.text.lstm import LSTM
from groundwork.architectures.text.transformer import Transformer
from groundwork.architectures.vgg import VGG11, VGG13, VGG16, VGG19
from groundwork.architectures.vgg_imagenet import VGG16ImageNet, VGG16ImageNetSmall

MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "alexnet_small": AlexNetSmall,
    "conv_2": Conv2,
    "conv_4": Conv4,
    "conv_6": Conv6,
    "crelu_small": CReLUSmall,
    "cyclic_small": CyclicSmall,
    "densenet_121": DenseNet121,
    "densenet_121_small": DenseNet121Small,
    "densenet_40": DenseNet40,
    "densenet_bc_100": DenseNetBC100,
    "doubly_small": DoublySmall,
    "efficientnet_b0": EfficientNetB0,
    "efficientnet_b0_small": EfficientNetB0Small,
    "efficientnet_lite0": EfficientNetLite0,
    "efficientnet_lite0_small": EfficientNetLite0Small,
    "lenet_300_100": LeNet300100,
    "lenet_5": LeNet5,
    "lstm": LSTM,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v1_small": MobileNetV1Small,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_small": MobileNetV2Small,
    "nin": NIN,
    "nin_small": NINSmall,
    "plain_small": PlainSmall,
    "residual_mlp": ResidualMLP,
    "resnet_18": ResNet18,
    "resnet_18_small": ResNet18Small,
    "resnet_20": ResNet20,
    "resnet_32": ResNet32,
    "resnet_50": ResNet50,
    "resnet_50_small": ResNet50Small,
    "resnet_56": ResNet56,
    "sep_net": SEPNet,
    "sep_net_small": SEPNetSmall,
    "shufflenet_v1": ShuffleNetV1,
    "shufflenet_v1_small": ShuffleNetV1Small,
    "shufflenet_v2": ShuffleNetV2,
    "shufflenet_v2_small": ShuffleNetV2Small,
    "squeezedet": SqueezeDet,
    "squeezedet_small": SqueezeDetSmall,
    "squeezenet_1_0": SqueezeNet10,
    "squeezenet_1_0_small": SqueezeNet10Small,
    "squeezenet_1_1": SqueezeNet11,
    "squeezenet_1_1_small": SqueezeNet11Small,
    "student_net": StudentNet,
    "transformer": Transformer,
    "vgg_11": VGG11,
    "vgg_13": VGG13,
    "vgg_16": VGG16,
    "vgg_16_imagenet": VGG16ImageNet,
    "vgg_16_imagenet_small": VGG16ImageNetSmall,
    "vgg_19": VGG19,
    "xception": Xception,
    "xception_small": XceptionSmall,
}
