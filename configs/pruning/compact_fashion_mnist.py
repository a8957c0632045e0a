r"""Which small network is right most often on Fashion-MNIST for its multiply-adds and parameters?

    python -m pruning.main --config=configs/pruning/compact_fashion_mnist.py \
        --workdir=runs/compact_one --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

This is one network of the comparison, StudentNet; `launch/reproduce/compact_fashion_mnist.sh` runs
all. Every line of launch/reproduce/compact.txt is a network that is small by design, LeNet-5, or a
VGG-11 whose channels are pruned. All train alike, for half an epoch (429 batches of 64) by Adam
(1e-3, cosine), in two replicates. What is pruned is then fine-tuned for half as many steps.
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
    config.replicates = 2
    config.train.update(steps=EPOCH, batch_size=64)
    config.optimizer.learning_rate = 1e-3
    config.prune.update(criterion="l1", members="first", compensate="none")
    config.prune.ratio = ()  # the original alone
    config.branches.update(scratch_e=False, scratch_b=False, random_units=False)
    config.fine_tune.update(steps=EPOCH // 2, batch_size=64)
    return config
