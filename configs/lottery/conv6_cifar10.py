"""Does Conv-6 have lottery tickets on CIFAR-10? The paper's setting; half of the weights convolve.

    python -m lottery.main --config=configs/lottery/conv6_cifar10.py --workdir=runs/conv6

The network has 2,262,602 parameters, of which 1.1 M are in six convolutions. (The paper says 1.7 M
in all, which is not what its layers add up to.) The setting is that of `conv2_cifar10.py`, with
Adam 3e-4, 30,000 steps, and convolutions pruned by 15 %.
Source: Frankle & Carbin, arXiv:1803.03635, Figure 2, Section 3 and Appendix H. Published: tickets
reach up to 3.3 points more test accuracy than the dense network (at density 0.264), learn up to 2.5
times as fast (at 0.151), and stay above it down to 0.02. Those densities are levels 7 and 10, which
are 0.266 and 0.153 here; that too speaks for 2.3 M (with 1.7 M they would be 0.283 and 0.167).
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.lottery import conv2_cifar10


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = conv2_cifar10.get_config()
    config.levels = 24
    config.model.name = "conv_6"
    config.train.steps = 30_000
    config.optimizer.learning_rate = 3e-4
    config.prune.rate = {"conv*": 0.15, "fc*": 0.2, "output": 0.1}
    return config
