r"""Lottery tickets of LeNet-300-100 on Fashion-MNIST: real data, minutes on two cores.

    python -m lottery.main --config=configs/lottery/lenet_fashion_mnist.py --workdir=runs/fashion \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist

The files come from Debian (`apt-get install dataset-fashion-mnist`); with the default
`data.source=tfds`, from TFDS. Adam 1.2e-3, batch 128, 6 epochs a level, 16 rounds of 20 % (the
output layer 10 %), rewound to step 0, controls at chosen levels.
Source of the protocol: Frankle & Carbin, arXiv:1803.03635. Departs: Fashion-MNIST for MNIST,
batch 128 for 60, and 6 epochs for 55, so that it trains here.
"""

from configs.lottery import base


def get_config():
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
