"""Defaults that every config of lottery.stability starts from, with the meaning of each key.

`configs/base.py` has the sections that all experiments share.
"""

import ml_collections

from configs import base
from configs.lottery import base as lottery_base


def get_config() -> ml_collections.ConfigDict:
    """Returns LeNet-300-100 on digits, of which every other config overrides some."""
    config = base.get_config()
    config.model = lottery_base.get_config().model
    config.stability = dict(
        steps=(0, 100),  # of the dense training, from which two copies are trained
        source="",  # a finished run of lottery.main with the same training, for tickets
        levels=(),  # of the source, whose masks are put on the dense weights: such as (3, 7)
        random_mask=False,  # random masks that keep as many weights of each layer, too
        between=(),  # levels of the source: paths between neighbours in it, such as (0, 1, 2)
        restore="weights",  # of the step: weights, or state: the optimiser's moments, too
        points=30,  # of the path, both ends among them
        train_examples=0,  # on which errors are measured beside the test split; 0: all
        match=False,  # measure again with the second end's units in the nearest order
    )
    return config
