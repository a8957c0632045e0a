r"""Does rewinding to step 500 find tickets of ResNet-20 on CIFAR-10, where step 0 does not?

    python -m lottery.main --config=configs/lottery/resnet20_cifar10.py --workdir=runs/resnet20
    python -m lottery.main --config=configs/lottery/resnet20_cifar10.py \
        --workdir=runs/resnet20_warmup --config.rewind.step=0 \
        --config.optimizer.learning_rate=0.03 --config.optimizer.warmup_steps=20000

The papers call this network Resnet-18. It is trained by SGD with momentum 0.9, weight decay 1e-4
and batch 128 for 30,000 steps; the rate is 0.1, times 0.1 at steps 20,000 and 25,000. Images are
padded, cropped and mirrored; 5,000 examples validate. A level prunes 20 % of what remains in all
convolutions together, and never the output layer. The second command is the earlier way: step 0,
a lower rate, and warm-up. CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Source: Frankle et al., arXiv:1903.01611 (rewinding); Frankle & Carbin, arXiv:1803.03635, Figure 2,
Section 4 and Appendix I.3 (the rest). Published test accuracy: the dense network has 0.905, and
0.896 with warm-up. At density 0.167 (level 8) from step 0, ticket and random mask both have 0.877;
with warm-up they have 0.903 and 0.868.
Departs: weights are He normal where the authors draw Glorot normal. Shortcuts have no parameters
(He et al., arXiv:1512.03385, option A), where theirs have 2,560 that are never pruned.
Hours: they are not known, since this has not been run whole. It is meant for a GPU: 16 levels of
30,000 steps.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 15
    config.eval_every = 1000
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.data.update(stream=True, augment="crop_flip")
    config.model.name = "resnet_20"
    config.train.update(steps=30_000, batch_size=128)
    config.optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.update(schedule="step", drop_steps=(20_000, 25_000))
    config.prune.update(rate={"*": 0.2, "output": 0.0}, scope="global")
    config.rewind.step = 500
    config.branches.random_reinit = (4, 8, 12)
    config.branches.random_mask = (4, 8, 12)
    return config
