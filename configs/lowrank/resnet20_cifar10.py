r"""How few multiply-adds does ResNet-20 need on CIFAR-10?

    python -m lowrank.main --config=configs/lowrank/resnet20_cifar10.py \
        --workdir=runs/lowrank_resnet20

The setting is that of `vgg16_cifar10.py`.
"""

import ml_collections

from configs.lowrank import vgg16_cifar10


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = vgg16_cifar10.get_config()
    config.model.name = "resnet_20"
    return config
