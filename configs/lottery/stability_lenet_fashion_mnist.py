r"""From which step on are LeNet-300-100 and its tickets stable? Fashion-MNIST.

    python -m lottery.main --config=configs/lottery/lenet_fashion_mnist.py --workdir=runs/fashion \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
    python -m lottery.stability.main --config=configs/lottery/stability_lenet_fashion_mnist.py \
        --workdir=runs/stability --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist \
        --config.stability.source=runs/fashion --config.stability.levels="(11,)"

The first command finds the tickets; level 11 has density 0.09. Without `stability.source`, the
dense network is measured alone.
Source: Frankle et al., arXiv:1912.05671, Figures 2 and 5, which have MNIST: LeNet is stable from
initialisation. Departs: this has Fashion-MNIST, batch 128 for 60, 6 epochs, three replicates with
one pair of copies each for three by three, and masks that were found once, rewound to step 0.
"""

import ml_collections

from configs.lottery import stability_base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = stability_base.get_config()
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=6 * 429, batch_size=128)
    config.eval_every = 429
    config.stability.steps = (0, 25, 100, 429, 1287)
    config.stability.update(random_mask=True, train_examples=10_000)
    return config
