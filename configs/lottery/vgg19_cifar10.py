r"""Does rewinding to step 100 find tickets of VGG-19 on CIFAR-10, where step 0 does not?

    python -m lottery.main --config=configs/lottery/vgg19_cifar10.py --workdir=runs/vgg19
    python -m lottery.main --config=configs/lottery/vgg19_cifar10.py --workdir=runs/vgg19_warmup \
        --config.rewind.step=0 --config.optimizer.warmup_steps=10000

The network has 20,035,018 parameters. It is trained by SGD with momentum 0.9, weight decay 1e-4 and
batch 64 for 160 epochs (112,480 steps); the rate is 0.1, times 0.1 after 80 and 120 epochs. Images
are padded, cropped and mirrored; 5,000 examples validate. A level prunes 20 % of what remains in
all convolutions together, and never the output layer. The second command is the earlier way: step 0
and warm-up. CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Source: Frankle et al., arXiv:1903.01611 (rewinding); Frankle & Carbin, arXiv:1803.03635, Figure 2,
Section 4 and Appendix I.2 (the rest). Published test accuracy: the dense network has 0.915, and
0.923 with warm-up. At density 0.022 (level 17) from step 0, the ticket has 0.900 and the random
mask 0.902; with warm-up they have 0.924 and 0.903.
Departs: weights are He normal where the authors draw Glorot normal.
Hours: they are not known, since this has not been run whole. It is meant for a GPU: 21 levels of
112,480 steps.
"""

import ml_collections

from configs.lottery import resnet20_cifar10

EPOCH = 703  # steps: 45,000 examples in batches of 64


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = resnet20_cifar10.get_config()
    config.levels = 20
    config.model.name = "vgg_19"
    config.train.update(steps=160 * EPOCH, batch_size=64)
    config.optimizer.drop_steps = (80 * EPOCH, 120 * EPOCH)
    config.rewind.step = 100
    config.branches.random_reinit = (8, 17, 20)
    config.branches.random_mask = (8, 17, 20)
    return config
