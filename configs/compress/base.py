"""Defaults that every compress config starts from: each key is here, with what it means.

The sections that all experiments share are in `configs/base.py`.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Prune, then quantise, a network that is trained first; everything overrides some of it."""
    config = base.get_config()
    config.model = dict(name="lenet_300_100", width=1.0, dtype="float32")
    config.source = dict(
        path="",  # a run's folder or an .npz file to take the network from; "" = train it
        unit="levels/00/ticket",  # of that run
    )
    config.stages = ("prune", "quantize")  # in order: of share, factorize, prune, distill, quantize
    config.share = dict(
        groups=(),  # layers that become one: (("conv1", "conv2"),)
        values="first",  # first, mean
    )
    config.factorize = dict(  # see the configs of lowrank
        method="any",  # svd, svd_outputs, spatial, tucker, cp, any
        ranks="budget",  # budget, energy, vbmf
        shares=(0.5,),  # of the dense layers' cost or of the energy; a network each
        measure="parameters",  # what budgets count: parameters, macs, milliseconds
        leave=(),  # patterns of layers that are left alone
        keep_slow=True,  # factorise layers also where that is not faster on this machine
    )
    config.prune = dict(  # see the configs of lottery
        levels=(8,),  # from which the pipeline goes on, a network each; all before are trained
        rate=base.anything(0.2),  # of what remains, a level; by pattern: {"*": 0.2, "output": 0.1}
        scope="layerwise",  # layerwise, global
        criterion="magnitude",  # magnitude, random
        schedule="geometric",  # geometric, linear
        prunable=("*kernel",),  # patterns of parameters
        rewind="start",  # start: to the initial values, trained as the original; none: fine-tuned
    )
    config.distill = dict(
        teachers=("before",),  # the network before the stage; or folders of runs, RUN or RUN:UNIT
        unit="levels/00/ticket",  # of runs that are named without one
        temperature=4.0,
        weight=0.9,  # of the soft part of the loss
        mean="arithmetic",  # arithmetic, geometric: over teachers
        model=base.anything({}),  # section of the student; {} = the same architecture
        init="fresh",  # fresh, shrink (the units that survived best), keep
        during=(),  # other stages that are taught too: ("prune", "quantize")
    )
    config.quantize = dict(
        method="kmeans",  # kmeans, uniform, ternary, binary
        bits=(4,),  # of kernels, a network each
        layers=base.anything({}),  # pattern → bits of these kernels: {"conv*": 6}
        mixed=False,  # bits are a mean; each layer's are chosen from measured losses
        init="linear",  # of kmeans: linear, density, random
        symmetric=True,  # of uniform
        per_channel=False,  # of uniform and binary: a scale for each output
        range="minmax",  # of uniform: minmax, percentile, mse
        scales="trained",  # of ternary: trained, twn
        stochastic=False,  # of binary: draw signs in training
        scaled=True,  # of binary: by the mean size, in place of 1
        fine_tune=True,  # train what was quantised
        other_bits=8,  # of biases and BatchNorm's scales; 0 = float32
        activation_bits=0,  # of what layers are given; 0 = float32
        activation_range="minmax",  # minmax, moving, percentile, mse
        gradient_bits=0,  # of gradients that come back to layers; 0 = as they are
    )
    config.fine_tune = dict(steps=200, batch_size=100)
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
