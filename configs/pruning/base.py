"""Defaults that every pruning config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the removal of half of all units, from a network that is trained first."""
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
    config.prune = dict(
        method="structured",  # structured: whole units go
        # l1, l2, product, scale, geometric_median, taylor, apoz, activation, correlation, lamp,
        # random
        criterion="l2",
        members="all",  # what l1, l2, … look at: all entries of a unit, or first: its own kernel
        # Of the units that go; (0.5, 0.75) or {"*": 0.5, "fc1": 0.75}; () trains the original alone
        ratio=base.anything(0.5),
        target=dict(
            multiply_adds=0.0,  # of one example, in the place of a ratio; below 1 a share; 0: none
            parameters=0.0,  # likewise
            milliseconds=0.0,  # of a prediction of one example, measured here
        ),
        scope="group",  # what is ranked together: group, isomorphic (alike groups) or global
        round_to=1,  # each group keeps a multiple of it
        limit=1.0,  # the largest share of a group that goes
        iterations=1,  # of pruning and fine-tuning, on the way to the ratio
        keep_accuracy=0.0,  # the largest ratio that loses so much on validation, untuned; 0: off
        compensate="none",  # how the next layers make up for what goes: least_squares or merge
        ignored=(),  # patterns of variables, such as ("params/fc1/*",), whose units all stay
        split="outer",  # units of a reshaped axis: outer (heads) or inner (dimensions of heads)
        examples=500,  # of training, that taylor, apoz, … and compensation look at
    )
    config.sparsity = dict(
        # of the original's loss: none, slimming (L1 of BatchNorm's scales), or the group lasso of
        # units, filters, channels, shapes or depth; or growing: λ/2 · w² of the units that will go
        penalty="none",
        weight=0.0,  # of it; of growing, the largest λ
        step=1e-4,  # of growing: what λ grows by
        every=10,  # of growing: updates after which it grows
        steps=400,  # of growing: updates, as fine_tune's, before the units go
    )
    config.branches = dict(
        scratch_e=False,  # also train the pruned shape from new weights, as long as the original
        scratch_b=False,  # likewise, for as many multiply-adds as the original
        random_units=False,  # also keep as many units at random
        scratch_b_at_most=0.0,  # times the original's steps, however few multiply-adds; 0: any
    )
    config.fine_tune = dict(
        steps=200,  # updates of a network that was changed
        batch_size=100,  # examples of a step, of each replicate
    )
    config.fine_tune_optimizer = config.optimizer.copy_and_resolve_references()
    config.fine_tune_optimizer.update(learning_rate=3e-4, schedule="cosine")
    return config
