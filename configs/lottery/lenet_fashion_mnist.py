r"""Does LeNet-300-100 have lottery tickets on real images? Fashion-MNIST, minutes on two cores.

    python -m lottery.main --config=configs/lottery/lenet_fashion_mnist.py --workdir=runs/fashion \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist

The files come from Debian (`apt-get install dataset-fashion-mnist`), or from TFDS with the default
`data.source=tfds`. The network is trained by Adam (1.2e-3) with batch 128 for 6 epochs per level.
Each of 16 rounds prunes 20 % (10 % of the output layer) and rewinds to step 0; controls are trained
at chosen levels.
Source of the protocol: Frankle & Carbin, arXiv:1803.03635. Departs: this has Fashion-MNIST for
MNIST, batch 128 for 60, and 6 epochs for 55, so that it trains on a laptop.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 16
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=6 * 429, batch_size=128)
    config.prune.rate = {"*": 0.2, "output": 0.1}
    config.branches.random_reinit = (3, 7, 10, 11, 12, 13, 14, 15, 16)
    config.branches.random_mask = (3, 7, 11, 14, 16)
    config.branches.small_dense = (7, 11, 16)
    return config
