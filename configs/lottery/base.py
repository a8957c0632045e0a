"""Defaults that every lottery config starts from: each key is here, with what it means.

The sections that all experiments share are in `configs/base.py`.
"""

import ml_collections

from configs import base
from configs.base import anything


def get_config() -> ml_collections.ConfigDict:
    """Digits, LeNet-300-100: everything else overrides some of this."""
    config = base.get_config()
    config.levels = 3  # rounds of pruning; level 0 is dense
    config.model = dict(
        name="lenet_300_100",
        width=1.0,
        dtype="float32",  # bfloat16: layers compute in it; parameters stay float32
    )
    config.prune = dict(
        rate=anything(0.2),  # of what remains; or {"*": 0.2, "output": 0.1}
        scope="layerwise",  # layerwise, global
        criterion="magnitude",  # magnitude, random
        schedule="geometric",  # geometric; linear: rate is a share of the original
        prunable=("*kernel",),  # patterns of the paths that may be pruned
    )
    config.rewind = dict(step=0, restore="weights")  # weights, state
    config.branches = dict(  # levels at which controls are trained: "all" or such as (4, 8)
        random_reinit=anything(()), random_mask=anything(()), small_dense=anything(())
    )
    return config
