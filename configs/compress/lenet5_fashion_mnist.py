r"""How small a file still classifies Fashion-MNIST as LeNet-5 does?

    python -m compress.main --config=configs/compress/lenet5_fashion_mnist.py \
        --workdir=runs/compress_lenet5 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

A level prunes 30 % (15 % of the first convolution and of the output layer), rewinds to step 0 and
trains for 4 epochs of 429 batches of 128 (Adam 1.2e-3). At several levels the network is then
quantised by k-means, fine-tuned for 2 epochs (Adam 3e-4, cosine), and coded. There are three
replicates, and 5,000 training images are held out. `../lottery/lenet_fashion_mnist.py` says where
the files come from; `make cpu` comes first.
Source of the pipeline: Han, Mao & Dally, arXiv:1510.00149. Departs: this differs from it as
`lenet300_fashion_mnist.py` does.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.model.name = "lenet_5"
    config.train.update(steps=4 * 429, batch_size=128)
    config.prune.levels = (7, 9, 11)
    config.prune.rate = {"*": 0.3, "conv1": 0.15, "output": 0.15}
    config.quantize.bits = (3, 4)
    config.fine_tune.update(steps=2 * 429, batch_size=128)
    return config
