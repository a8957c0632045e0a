r"""Does LeNet-5, the smallest convolutional subject, have lottery tickets on Fashion-MNIST?

    python -m lottery.main --config=configs/lottery/lenet5_fashion_mnist.py --workdir=runs/lenet5 \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist

The network has 431,080 parameters. It is trained by Adam (1.2e-3) with batch 128 for two epochs per
level. A level prunes 10 % in the convolutions, 20 % in the dense layers and 10 % in the output
layer. `lenet_fashion_mnist.py` says where the files come from.
Source of the rates: Frankle & Carbin, arXiv:1803.03635, Figure 2.
"""

import ml_collections

from configs.lottery import lenet_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet_fashion_mnist.get_config()
    config.levels = 12
    config.model.name = "lenet_5"
    config.train.steps = 2 * 429
    config.prune.rate = {"conv*": 0.1, "fc1": 0.2, "output": 0.1}
    config.branches.random_reinit = (6, 12)
    config.branches.random_mask = (6, 12)
    config.branches.small_dense = (12,)
    return config
