"""Does a winning ticket beat its dense network? A short form of MNIST-1D's lottery experiment.

    make quickstart
    python -m lottery.main --config=configs/lottery/mnist1d.py --workdir=runs/mnist1d

Residual MLP 40-500-500-10 (276,010 parameters), Adam 2e-2, batch 100, 1,501 steps a level, kernel
and bias of a layer ranked together, accuracy at the last step, no validation split.
Source: Greydanus & Kobak, arXiv:2011.14439, the lottery-ticket notebook.
Departs: 20 % of what remains over 12 levels, where the authors grow sparsity linearly over 100
(`mnist1d_full.py`); batches are drawn anew each epoch, where theirs repeat; rounded counts.
"""

from configs.lottery import base


def get_config():
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
