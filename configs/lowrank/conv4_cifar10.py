"""How few multiply-adds does Conv-4 need on CIFAR-10?

    python -m lowrank.main --config=configs/lowrank/conv4_cifar10.py --workdir=runs/lowrank_conv4

The network has 2,425,930 parameters. It is trained by Adam (3e-4) for 25,000 steps with batch 60,
as in `../lottery/conv4_cifar10.py`; then every method is tried at four budgets, and each network is
fine-tuned for 5,000 steps.
CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.lowrank import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 1000
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.model.name = "conv_4"
    config.train.update(steps=25_000, batch_size=60)
    config.optimizer.learning_rate = 3e-4
    config.decompose.methods = ("svd", "spatial", "tucker", "cp", "any")
    config.decompose.shares = (0.5, 0.33, 0.2, 0.1)
    config.fine_tune.update(steps=5000, batch_size=60)
    config.fine_tune_optimizer.learning_rate = 1e-4
    return config
