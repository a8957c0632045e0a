r"""Which small network is right most often on Fashion-MNIST for its multiply-adds and parameters?

    launch/reproduce/compact_fashion_mnist.sh -- \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist

Every line of launch/reproduce/compact.txt is a network that is small by design, LeNet-5, or a
VGG-11 whose channels are pruned; all train alike, for one epoch of 429 batches of 128 by Adam
(2e-3, cosine), in three replicates. What is pruned is then fine-tuned for half an epoch.
`lenet5_fashion_mnist.py` says where the files come from; `make cpu` comes first. docs/results.md
has the figure and says how long it took.
"""

import ml_collections

from configs.pruning import lenet5_fashion_mnist
from configs.pruning.lenet5_fashion_mnist import EPOCH


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet5_fashion_mnist.get_config()
    config.model.name = "student_net"
    config.train.steps = EPOCH
    config.optimizer.learning_rate = 2e-3
    config.prune.update(criterion="l1", members="first", compensate="none")
    config.prune.ratio = ()  # the original alone
    config.branches.update(scratch_e=False, scratch_b=False, random_units=False)
    config.fine_tune.steps = EPOCH // 2
    return config
