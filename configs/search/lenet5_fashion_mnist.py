r"""What is the smallest file of LeNet-5 that loses nothing on Fashion-MNIST?

    python -m compress.search --config=configs/search/lenet5_fashion_mnist.py \
        --workdir=runs/search_lenet5 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

    python -m compress.search --config=configs/search/lenet5_fashion_mnist.py \
        --workdir=runs/search_lenet5_10kb --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist \
        --config.accuracy.loss=-1 --config.budget.bytes=10000

The original is trained for 4 epochs of 429 batches of 128 (Adam 1.2e-3). A round of a candidate is
an epoch under its mask, and codebooks are trained for an epoch before each judgment; the chosen
network is trained for two epochs more, and its codebooks for two. There are three replicates, and
5,000 training images are held out, by which everything is chosen.
`../lottery/lenet_fashion_mnist.py` says where the files come from; `make cpu` comes first.
"""

import ml_collections

from configs.search import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.model.name = "lenet_5"
    config.train.update(steps=4 * 429, batch_size=128)
    config.budget.bytes = 0
    config.accuracy.loss = 0.0
    config.evaluations = 11
    config.space.densities = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.055, 0.04, 0.03, 0.022)
    config.space.densities += (0.016, 0.012)
    config.space.bits = (4, 3, 2)
    config.quantize.rate = 0.02
    config.search.uniform = 2
    config.search.steps = 429
    config.search.rungs = (1, 3)
    config.fine_tune.update(steps=2 * 429, batch_size=128)
    return config
