"""Does Conv-2 have lottery tickets on CIFAR-10? The paper's setting, where most weights are dense.

    python -m lottery.main --config=configs/lottery/conv2_cifar10.py --workdir=runs/conv2

The network has 4,301,642 parameters, of which 1 % are in two convolutions. It is trained by Adam
(2e-4) for 20,000 steps with batch 60, without augmentation, in five replicates; 5,000 examples
validate, and evaluation comes every 100 steps. A level prunes 10 % of what remains in the
convolutions, 20 % in the dense layers and 10 % in the output layer, and rewinds to step 0.
CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Source: Frankle & Carbin, arXiv:1803.03635, Figure 2, Section 3 and Appendix H. Published: tickets
reach up to 3.4 points more test accuracy than the dense network (at density 0.046, level 14), learn
up to 3.5 times as fast (at 0.088, level 11), and stay above it down to 0.02.
Departs: a ticket has one re-initialised network, where the paper draws three.
Hours: they are not known, since this has not been run whole. It is meant for a GPU: 21 levels, each
with its re-initialised control, are 820,000 steps of five networks.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 5
    config.levels = 20
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.model.name = "conv_2"
    config.train.update(steps=20_000, batch_size=60)
    config.optimizer.learning_rate = 2e-4
    config.prune.rate = {"conv*": 0.1, "fc*": 0.2, "output": 0.1}
    config.branches.random_reinit = "all"
    return config
