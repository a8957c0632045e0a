"""Does MNIST-1D's whole lottery experiment reproduce? Tickets and random masks at 99 sparsities.

    python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=runs/mnist1d_full

The setting is that of `mnist1d.py`, with sparsity k/99 at level k. The authors' hundredth level,
sparsity 1, keeps no weight at all and is left out. `published` has the authors' figures at sparsity
0.92 (91/99), one entry for each trial, from the output of their notebook (arXiv:2011.14439; two
trials).
"""

import ml_collections

from configs.lottery import mnist1d


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = mnist1d.get_config()
    config.levels = 98
    config.prune.schedule = "linear"
    config.prune.rate = 1 / 99
    config.branches.random_mask = "all"
    config.branches.random_reinit = ()
    config.branches.small_dense = ()
    config.published = ml_collections.ConfigDict()
    config.published.source = "Greydanus & Kobak, arXiv:2011.14439, notebook"  # where they stand
    config.published.level = 91  # to which the accuracies belong
    config.published.ticket = (0.756, 0.744)  # accuracy of each trial
    config.published.random_mask = (0.606, 0.618)  # accuracy of each trial
    config.published.dense = (0.606, 0.664)  # accuracy of each trial
    return config
