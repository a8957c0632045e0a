"""How few multiply-adds does VGG-16 need on CIFAR-10?

    python -m lowrank.main --config=configs/lowrank/vgg16_cifar10.py --workdir=runs/lowrank_vgg16

The network is trained by SGD with momentum 0.9 and weight decay 1e-4, at rate 0.1 with a cosine
schedule, for 160 epochs of 351 batches of 128; images are padded, cropped and mirrored. Then three
methods decompose it at four budgets, and each result is fine-tuned for 20 epochs from rate 0.01.
CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.lowrank import base

EPOCH = 351  # steps: 45,000 examples in batches of 128


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = EPOCH
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.data.update(stream=True, augment="crop_flip")
    config.model.name = "vgg_16"
    config.train.update(steps=160 * EPOCH, batch_size=128)
    config.optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.schedule = "cosine"
    config.decompose.methods = ("spatial", "tucker", "any")
    config.decompose.shares = (0.5, 0.33, 0.2, 0.1)
    config.fine_tune.update(steps=20 * EPOCH, batch_size=128)
    config.fine_tune_optimizer.update(name="momentum", learning_rate=0.01, weight_decay=1e-4)
    return config
