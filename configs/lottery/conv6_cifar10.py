"""Lottery tickets of Conv-6 on CIFAR-10, as the paper has them: half of the weights convolve.

    python -m lottery.main --config=configs/lottery/conv6_cifar10.py --workdir=runs/conv6

2,262,602 parameters, of which 1.1 M in six convolutions (the paper says 1.7 M in all, which is
not what its layers add up to). As `conv2_cifar10.py`, with Adam 3e-4, 30,000 steps, and
convolutions pruned by 15 %.
Source: Frankle & Carbin, arXiv:1803.03635, Figure 2, Section 3 and Appendix H. Published: tickets
reach up to 3.3 points more test accuracy than the dense network (at density 0.264), up to 2.5
times as fast (at 0.151), and stay above it down to 0.02. Those densities are levels 7 and 10, here
0.266 and 0.153: they too speak for 2.3 M (with 1.7 M they would be 0.283 and 0.167).
Hours: not known; this has not been run whole. It is meant for a GPU.
"""

from configs.lottery import conv2_cifar10


def get_config():
    """See the module's docstring."""
    config = conv2_cifar10.get_config()
    config.levels = 24
    config.model.name = "conv_6"
    config.train.steps = 30_000
    config.optimizer.learning_rate = 3e-4
    config.prune.rate = {"conv*": 0.15, "fc*": 0.2, "output": 0.1}
    return config
