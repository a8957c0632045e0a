r"""How small a file still classifies Fashion-MNIST as LeNet-300-100 does?

    python -m compress.main --config=configs/compress/lenet300_fashion_mnist.py \
        --workdir=runs/compress_lenet300 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

A level prunes 20 % (10 % of the output layer), rewinds to step 0 and trains for 6 epochs of 429
batches of 128 (Adam 1.2e-3). At several levels the network is then quantised by k-means, fine-tuned
for 4 epochs (Adam 3e-4, cosine), and coded. There are three replicates, and 5,000 training images
are held out. `../lottery/lenet_fashion_mnist.py` says where the files come from.
Source of the pipeline: Han, Mao & Dally, arXiv:1510.00149. Departs: this has Fashion-MNIST for
MNIST, and iterative pruning with rewinding (arXiv:1803.03635) for one round of pruning; zero has an
entry of its own in the codebook.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=6 * 429, batch_size=128)
    config.prune.levels = (12, 14, 16, 18, 20, 22)
    config.prune.rate = {"*": 0.2, "output": 0.1}
    config.quantize.bits = (2, 3, 4)
    config.fine_tune.update(steps=4 * 429, batch_size=128)
    return config
