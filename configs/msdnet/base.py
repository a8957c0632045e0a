"""Defaults that every msdnet config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base
from configs.base import anything


def get_config() -> ml_collections.ConfigDict:
    """Returns the paper's CIFAR form and recipe, of which every other config overrides some."""
    config = base.get_config()
    # any of msdnet, slimmable, heads, heads_2, and the controls resnet_exits, resnets, separate
    config.networks = anything(("msdnet",))
    config.msdnet = dict(
        blocks=7,  # the number of exits
        base=4,  # layers before the first exit
        step=2,  # layers between exits
        step_mode="even",  # even, or lin_grow: step × k + 1 layers in block k = 1, 2, …
        channels=16,  # of the finest scale after the first layer
        growth=6,  # channels that a layer adds to it
        growth_factors=(1, 2, 4),  # times channels and growth, for each scale; finest first
        bottleneck_factors=(1, 2, 4),  # times growth, for each scale; 0 makes no bottleneck
        reduction=0.5,  # of channels, in transitions; 0 makes none
        prune="max",  # how finer scales are dropped: max or min
        stem="cifar",  # the first layer: cifar or imagenet (which divides the size by 4)
        head=128,  # channels of the classifiers' convolutions; 0 keeps as many as come in
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
    )
    config.resnet_exits = dict(
        width=1.0,  # times 16, 32 and 64 channels
        blocks=3,  # of each of the three stages
        every=1,  # blocks between two exits
        dtype="float32",  # of what layers compute, or bfloat16
    )
    config.resnets = dict(
        width=1.0,  # times 16, 32 and 64 channels
        blocks=(1, 2, 3),  # of each stage; one network for each
        dtype="float32",  # of what layers compute, or bfloat16
    )
    config.slimmable = dict(  # and of separate, which trains the same widths apart
        model=dict(  # the whole network
            name="resnet_20",  # of all networks here, or PACKAGE:NAME of your own
            width=1.0,  # times the units of its hidden layers
            dtype="float32",  # of what layers compute, or bfloat16
            kwargs=anything({}),  # further arguments of it
            call=anything({}),  # how a network of your own is called, as model.call elsewhere
        ),
        widths=(0.25, 0.5, 0.75, 1.0),  # shares of its units; each is an exit
    )
    config.heads = dict(  # classifiers on layers of any network, whose own output is the last exit
        model=dict(
            name="vgg_11",  # any network of groundwork/architectures, or PACKAGE:NAME
            width=0.25,  # times the channels; 1.0 for PACKAGE:NAME
            dtype="float32",  # of what layers compute, or bfloat16
            kwargs=anything({}),  # further settings of the network
            call=anything({}),  # how PACKAGE:NAME is called
        ),
        # after which exits come, in the order of the computation
        layers=anything(("bn1_1", "bn2_1", "bn3_2", "bn4_2")),
        head=0,  # channels of two convolutions of stride 2 in each head; 0 makes none
    )
    # A second such network, so that two can stand in one figure.
    config.heads_2 = config.heads.copy_and_resolve_references()
    config.heads_2.update(layers=("block1_3", "block2_3"))
    config.heads_2.model.update(name="resnet_20", width=0.5)
    config.exits = dict(
        weights=(),  # of msdnet's exits in the loss; () gives each 1
        distillation=0.0,  # weight of the last exit's answers as targets of the other exits
        distillation_temperature=3.0,  # by which the outputs of both are divided
        equilibrium=False,  # whether gradients are brought into equilibrium
        confidence="softmax",  # by which an exit answers: softmax, entropy or margin
        calibrate=False,  # fit the exits' temperatures on the validation split
    )
    config.optimizer.update(
        name="nesterov", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule="step"
    )
    return config
