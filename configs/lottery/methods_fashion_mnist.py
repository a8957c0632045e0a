r"""Are tickets worth their trainings? They and their controls, at a fifth to a fiftieth of weights.

    python -m lottery.main --config=configs/lottery/methods_fashion_mnist.py \
        --workdir=runs/methods/tickets --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

LeNet-300-100 on Fashion-MNIST as in `lenet_fashion_mnist.py`, but for three epochs. Each of 17
rounds prunes 20.57 % of each layer, so that levels 7, 10, 13 and 17 have the densities 0.2, 0.1,
0.05 and 0.02 of `configs/pruning/methods_fashion_mnist.py`. `python -m launch.methods` sets its
methods beside these: tickets, fine-tuning, learning rate rewinding (Renda et al.,
arXiv:2003.02389), random masks, new weights, small dense networks. The learning rate is a tenth in
the last epoch, so that fine-tuning and learning rate rewinding differ.
"""

import ml_collections

from configs.lottery import lenet_fashion_mnist

EPOCH = 429  # steps: 55,000 examples in batches of 128
LEVELS = (7, 10, 13, 17)


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet_fashion_mnist.get_config()
    config.levels = 17
    config.eval_every = EPOCH
    config.train.steps = 3 * EPOCH
    config.optimizer.update(schedule="step", drop_steps=(2 * EPOCH,))
    config.prune.rate = 1 - 0.1 ** (1 / 10)
    config.branches.random_reinit = LEVELS
    config.branches.random_mask = LEVELS
    config.branches.small_dense = LEVELS
    config.branches.finetune = "all"
    config.branches.lr_rewind = "all"
    return config
