"""Defaults that every lottery config starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base
from configs.base import anything


def get_config() -> ml_collections.ConfigDict:
    """Returns LeNet-300-100 on digits, of which every other config overrides some."""
    config = base.get_config()
    config.levels = 3  # rounds of pruning; level 0 is dense
    config.model = dict(
        name="lenet_300_100",  # a network of groundwork.architectures, or PACKAGE:NETWORK
        width=1.0,  # times the layers' usual units or channels
        dtype="float32",  # of what layers compute, or bfloat16; parameters stay float32
        # settings of the network, such as {"groups": 8}; of your own, what it is built with
        kwargs=anything({}),
        call=anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.prune = dict(
        rate=anything(0.2),  # pruned share of what remains; or {"*": 0.2, "output": 0.1}
        scope="layerwise",  # where weights are ranked: layerwise or global
        # What ranks weights: magnitude, l1, l2, lamp or random; of a training: magnitude_increase,
        # magnitude_increase_same_sign, large_final_same_sign, distance or movement; of examples:
        # snip, taylor, grasp, obd, synflow, wanda or obs
        criterion="magnitude",
        examples=0,  # of training, that the criterion looks at; 0: its own number
        schedule="geometric",  # geometric, or linear: rate is then a share of the original
        prunable=("*kernel",),  # patterns of the paths that may be pruned
        score_step=-1,  # the step after which weights are scored for the next mask; -1: the last
        before_training=False,  # choose the masks of all levels by the weights at step 0
    )
    config.rewind = dict(
        step=0,  # of the dense training, to which tickets go back
        restore="weights",  # weights, or state: the optimiser's moments, too
    )
    config.ticket = dict(  # tickets of another run, trained by this config
        source="",  # the folder of a finished run, or its address; "" finds tickets of its own
        branch="ticket",  # of the source, or a control of `branches`
        levels=anything("all"),  # that are trained beside level 0: "all", or such as (4, 8)
        # auto: arrays whose shapes another number of classes changes are drawn anew; replace: all
        # that depend on it, as where classes mean something else
        head="auto",
    )
    config.branches = dict(  # levels at which controls are trained: "all", or such as (4, 8)
        random_reinit=anything(()),  # the ticket's mask, new weights: levels, or "all"
        random_mask=anything(()),  # as many weights, drawn at random: levels, or "all"
        small_dense=anything(()),  # a dense network of the ticket's size: levels, or "all"
        # goes on from its own weights of the level before, at the last learning rate: "all", or
        # levels from 1 on without a gap
        finetune=anything(()),
        lr_rewind=anything(()),  # likewise, and repeats the schedule of the learning rate
        shuffled_mask=anything(()),  # the ticket's mask, shuffled within each array
        shuffled_signs=anything(()),  # the ticket, with its signs shuffled within each array
        constant_signed=anything(()),  # the ticket's signs, times each array's deviation
        scratch_b=anything(()),  # new weights in its mask, for the dense network's multiply-adds
        scratch_b_at_most=0.0,  # times train.steps, however few multiply-adds; 0: any
    )
    return config
