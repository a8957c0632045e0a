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
        name="lenet_300_100",  # or PACKAGE:NETWORK of your own
        width=1.0,
        dtype="float32",  # or bfloat16, for what layers compute; parameters stay float32
        kwargs=anything({}),  # what a network of your own is built with
        call=anything({}),  # how it is called: {"train": {…}, "eval": {…}}; {} finds out
    )
    config.prune = dict(
        rate=anything(0.2),  # share of what remains; or {"*": 0.2, "output": 0.1}
        scope="layerwise",  # layerwise or global
        criterion="magnitude",  # magnitude or random
        schedule="geometric",  # geometric, or linear: rate is then a share of the original
        prunable=("*kernel",),  # patterns of the paths that may be pruned
        score_step=-1,  # the step after which weights are scored for the next mask; -1: the last
    )
    config.rewind = dict(step=0, restore="weights")  # weights or state
    config.branches = dict(  # levels at which controls are trained: "all", or such as (4, 8)
        random_reinit=anything(()), random_mask=anything(()), small_dense=anything(())
    )
    return config
