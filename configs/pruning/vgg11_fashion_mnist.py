r"""How few channels does a narrow VGG-11 need on Fashion-MNIST, ranked in each layer?

    python -m pruning.main --config=configs/pruning/vgg11_fashion_mnist.py \
        --workdir=runs/pruning_vgg11 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has a quarter of the channels; images have a border of two pixels, so that they can be
halved five times. It is trained by SGD with momentum 0.9, weight decay 1e-4 and batch 128 for four
epochs, in two replicates; the rate is 0.1, times 0.1 after half and three quarters. Half and three
quarters of the channels go, by the norms of their filters, and one epoch of fine-tuning follows.
`lenet5_fashion_mnist.py` says where the files come from.
Source of the criterion: Li et al., arXiv:1608.08710.
Hours: they are not known, since this has not been run whole. It needs `make cpu` on a CPU.
"""

import ml_collections

from configs.pruning import lenet5_fashion_mnist
from configs.pruning.lenet5_fashion_mnist import EPOCH


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet5_fashion_mnist.get_config()
    config.replicates = 2
    config.data.pad = 2
    config.model.update(name="vgg_11", width=0.25)
    config.train.steps = 4 * EPOCH
    config.optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.update(schedule="step", drop_steps=(2 * EPOCH, 3 * EPOCH))
    config.prune.update(criterion="l1", members="first", compensate="none")
    config.prune.ratio = (0.5, 0.75)
    config.branches.scratch_b = False
    config.fine_tune.steps = EPOCH
    config.fine_tune_optimizer.update(name="momentum", learning_rate=0.01, weight_decay=1e-4)
    return config
