"""Defaults that every msdnet config starts from: each key is here, with what it means.

The sections that all experiments share are in `configs/base.py`.
"""

import ml_collections

from configs import base
from configs.base import anything


def get_config() -> ml_collections.ConfigDict:
    """The paper's CIFAR form and recipe; everything else overrides some of this."""
    config = base.get_config()
    config.networks = anything(("msdnet",))  # and controls: resnet_exits, resnets
    config.msdnet = dict(
        blocks=7,  # exits
        base=4,  # layers before the first exit
        step=2,  # layers between exits
        step_mode="even",  # even; lin_grow: step × k + 1 before exit k
        channels=16,  # of the finest scale after the first layer
        growth=6,  # channels that a layer adds to it
        growth_factors=(1, 2, 4),  # on both, a scale; finest first
        bottleneck_factors=(1, 2, 4),  # a scale; 0 = no bottleneck
        reduction=0.5,  # of channels, in transitions; 0 = none
        prune="max",  # max, min: how finer scales are dropped
        stem="cifar",  # cifar, imagenet
        head=128,  # channels of the classifiers' convolutions; 0 = as many as come in
        dtype="float32",  # bfloat16: layers compute in it; parameters stay float32
    )
    config.resnet_exits = dict(width=1.0, blocks=3, every=1, dtype="float32")
    config.resnets = dict(width=1.0, blocks=(1, 2, 3), dtype="float32")
    config.exits = dict(
        weights=(),  # of msdnet's exits in the loss; () = 1 each
        distillation=0.0,  # weight of the last exit's answers as targets of the others
        distillation_temperature=3.0,
        equilibrium=False,  # gradient equilibrium
        confidence="softmax",  # softmax, entropy, margin
        calibrate=False,  # temperatures fitted on the validation split
    )
    config.optimizer.update(
        name="nesterov", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule="step"
    )
    return config
