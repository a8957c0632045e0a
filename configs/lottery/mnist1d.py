"""Does a winning ticket beat its dense network? A short form of MNIST-1D's lottery experiment.

    make quickstart
    python -m lottery.main --config=configs/lottery/mnist1d.py --workdir=runs/mnist1d

The network is the residual MLP 40-500-500-10 (276,010 parameters). It is trained by Adam (2e-2)
with batch 100 for 1,501 steps per level. Kernel and bias of a layer are ranked together, accuracy
is that of the last step, and there is no validation split.
Source: Greydanus & Kobak, arXiv:2011.14439, the lottery-ticket notebook.
Departs: 12 levels prune 20 % of what remains, where the authors let sparsity grow linearly over 100
levels (`mnist1d_full.py`). Masks are chosen by the weights of the last step, where the authors take
those of their last checkpoint, after 1,001 steps. Batches are drawn anew in each epoch, where
theirs repeat. Counts are rounded.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 12
    config.data.name = config.data.source = "mnist1d"
    config.data.standardize = False
    config.model.name = "residual_mlp"
    config.train.update(steps=1501, batch_size=100)
    config.optimizer.learning_rate = 2e-2
    config.prune.prunable = ("*",)
    config.branches.random_mask = (4, 8, 10, 12)
    config.branches.random_reinit = (8, 12)
    config.branches.small_dense = (12,)
    return config
