"""How few multiply-adds does Conv-4 need on CIFAR-10?

    python -m lowrank.main --config=configs/lowrank/conv4_cifar10.py --workdir=runs/lowrank_conv4

2,425,930 parameters; Adam 3e-4, 25,000 steps of 60 as `../lottery/conv4_cifar10.py`, then every
method at four budgets, fine-tuned for 5,000 steps.
CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Hours: not known; this has not been run whole. It is meant for a GPU.
"""

from configs.lowrank import base


def get_config():
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
