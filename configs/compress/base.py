"""Defaults that every compress config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns pruning and then quantisation of a network that is trained first."""
    config = base.get_config()
    config.model = dict(
        name="lenet_300_100",  # a network of groundwork.architectures, or PACKAGE:NETWORK
        width=1.0,  # times the layers' usual units or channels
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
        # settings of the network, such as {"groups": 8}; of your own, what it is built with
        kwargs=base.anything({}),
        call=base.anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.source = dict(
        path="",  # a run's folder or a file of weights, such as .safetensors; "" trains it
        unit="levels/00/ticket",  # the unit of that run
    )
    # Any of share, factorize, prune, distill, structured, equalize and quantize, in this order;
    # equalize may also stand before factorize or structured.
    config.stages = ("prune", "quantize")
    config.share = dict(
        groups=(),  # layers that become one: (("conv1", "conv2"),)
        values="first",  # with which they begin: first or mean
    )
    config.factorize = dict(  # see the configs of lowrank
        method="any",  # of each layer: svd, svd_outputs, spatial, tucker, cp or any
        ranks="budget",  # how they are chosen: budget, energy or vbmf
        shares=(0.5,),  # kept, of the dense layers' cost or of the energy; one network for each
        measure="parameters",  # what budgets count: parameters, macs or milliseconds
        leave=(),  # patterns of layers that are left alone
        keep_slow=True,  # also factorise layers where that is not faster on this machine
    )
    config.prune = dict(  # see the configs of lottery
        levels=(
            8,
        ),  # rounds of pruning; each continues as one network; all levels before are trained
        rate=base.anything(0.2),  # pruned share of what remains; or {"*": 0.2, "output": 0.1}
        scope="layerwise",  # where weights are ranked: layerwise or global
        # What ranks weights: magnitude, l1, l2, lamp or random; of examples: snip, taylor, grasp,
        # obd, synflow, wanda or obs
        criterion="magnitude",
        examples=0,  # of training, that the criterion looks at; 0: its own number
        schedule="geometric",  # geometric, or linear: rate is then a share of the original
        prunable=("*kernel",),  # patterns of the paths that may be pruned
        rewind="start",  # start (initial values, trained as the original) or none (fine-tuned)
    )
    config.distill = dict(
        teachers=("before",),  # the network before the stage; or runs, as RUN or RUN:UNIT
        unit="levels/00/ticket",  # of runs that are named without one
        temperature=4.0,  # by which the outputs of both are divided
        weight=0.9,  # of the teachers' part of the loss, in [0, 1]
        mean="arithmetic",  # of several teachers: arithmetic or geometric
        model=base.anything({}),  # the student's section `model`; {} keeps the architecture
        init="fresh",  # of the student: fresh, shrink (the units that survived best) or keep
        during=(),  # other stages that are taught too: ("prune", "quantize")
        assistants=(),  # sections `model` between: each is taught by the one before it
        # students to compare with: alone (no teacher), direct (no assistants, no hints)
        controls=(),
        mutual=0,  # students that teach each other instead, without teachers; 0: none
        hints=(),  # (layer of the student, of the network before): (("fc2", "fc2"),)
        hint_steps=0,  # updates by hints alone, before teaching; 0: hints beside teaching
        hint_weight=1.0,  # of hints beside teaching
    )
    config.structured = dict(  # see the configs of pruning
        ratio=(0.5,),  # share of each group's units that go; one network for each
        criterion="l2",  # what ranks units, such as l1, l2, scale, taylor, activation or random
        compensate=False,  # solve for the weights that make up for units that go
    )
    config.equalize = dict(  # without training: BatchNorm is folded into kernels
        cross_layer=True,  # also make the ranges of neighbouring layers even
    )
    config.quantize = dict(
        method="kmeans",  # kmeans, uniform, ternary or binary
        bits=(4,),  # of kernels; one network for each
        layers=base.anything({}),  # pattern → bits of these kernels, such as {"conv*": 6}
        mixed=False,  # bits are a mean, and measured losses choose those of each layer
        # of kmeans: what a bit of the file costs, in the mean square of a kernel's kept weights;
        # 0.01 to 0.1 are worth trying, and 0 is off
        rate=0.0,
        rate_importance="none",  # or gradients: errors count by their squares; rates are smaller
        rate_rounds=1,  # how often weights are assigned, each time before fine_tune
        init="linear",  # of kmeans: linear, density or random
        symmetric=True,  # of uniform: the range is the same on both sides of 0
        per_channel=False,  # of uniform and binary: one scale for each output
        range="minmax",  # of uniform: minmax, percentile or mse
        scales="trained",  # of ternary: trained or twn
        stochastic=False,  # of binary: draw signs in training
        scaled=True,  # of binary: values are ± the mean size instead of ±1
        fine_tune=True,  # train the quantised network
        # Without fine_tune: none, or empirical, where biases make up for the mean errors of layers
        bias_correction="none",
        other_bits=8,  # of biases and BatchNorm's scales; 0 keeps float32
        activation_bits=0,  # of the inputs of layers; 0 keeps float32
        activation_range="minmax",  # minmax, moving, percentile or mse
        gradient_bits=0,  # of gradients that come back to layers; 0 keeps them
    )
    config.fine_tune = dict(
        steps=200,  # updates of a network that was changed; 0 leaves it as it was changed
        batch_size=100,  # examples of a step, of each replicate
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
