r"""How few multiply-adds does a narrow ResNet-20 need on Fashion-MNIST, its shortcuts included?

    python -m pruning.main --config=configs/pruning/resnet20_fashion_mnist.py \
        --workdir=runs/pruning_resnet20 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has half of the channels (67,906 parameters). It is trained by SGD with momentum 0.9,
weight decay 1e-4 and batch 128 for four epochs, in two replicates; the rate is 0.1, times 0.1 after
half and three quarters. Channels go, of the residual streams too, until half of the multiply-adds
are left; blocks of the same shape are ranked together. One epoch of fine-tuning follows.
`lenet5_fashion_mnist.py` says where the files come from.
Hours: they are not known, since this has not been run whole. It needs `make cpu` on a CPU.
"""

import ml_collections

from configs.pruning import vgg11_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = vgg11_fashion_mnist.get_config()
    config.data.pad = 0
    config.model.update(name="resnet_20", width=0.5)
    config.prune.update(criterion="l2", members="all", scope="isomorphic")
    config.prune.target.multiply_adds = 0.5
    return config
