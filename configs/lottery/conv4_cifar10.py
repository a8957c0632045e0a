"""Does Conv-4 have lottery tickets on CIFAR-10? The paper's setting.

    python -m lottery.main --config=configs/lottery/conv4_cifar10.py --workdir=runs/conv4

The network has 2,425,930 parameters, of which 11 % are in four convolutions. The setting is that of
`conv2_cifar10.py`, with Adam 3e-4 and 25,000 steps.
Source: Frankle & Carbin, arXiv:1803.03635, Figure 2, Section 3 and Appendix H. Published: tickets
reach up to 3.5 points more test accuracy than the dense network (at density 0.111, level 11), learn
up to 3.5 times as fast (at 0.092, level 12), and stay above it down to 0.02.
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.lottery import conv2_cifar10


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = conv2_cifar10.get_config()
    config.levels = 22
    config.model.name = "conv_4"
    config.train.steps = 25_000
    config.optimizer.learning_rate = 3e-4
    return config
