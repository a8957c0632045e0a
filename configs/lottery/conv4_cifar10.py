"""Lottery tickets of Conv-4 on CIFAR-10, as the paper has them.

    python -m lottery.main --config=configs/lottery/conv4_cifar10.py --workdir=runs/conv4

2,425,930 parameters, of which 11 % in four convolutions. As `conv2_cifar10.py`, with Adam 3e-4 and
25,000 steps.
Source: Frankle & Carbin, arXiv:1803.03635, Figure 2, Section 3 and Appendix H. Published: tickets
reach up to 3.5 points more test accuracy than the dense network (at density 0.111, level 11), up
to 3.5 times as fast (at 0.092, level 12), and stay above it down to 0.02.
Hours: not known; this has not been run whole. It is meant for a GPU.
"""

from configs.lottery import conv2_cifar10


def get_config():
    """See the module's docstring."""
    config = conv2_cifar10.get_config()
    config.levels = 22
    config.model.name = "conv_4"
    config.train.steps = 25_000
    config.optimizer.learning_rate = 3e-4
    return config
