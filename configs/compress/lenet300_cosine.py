r"""How small is a file of LeNet-300-100 that is compared with a stronger dense network?

    python -m compress.main --config=configs/compress/lenet300_cosine.py \
        --workdir=runs/compress_cosine --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The setting is that of `lenet300_fashion_mnist.py`, but every level, the dense one too, is trained
twice as long under a cosine schedule, and biases get five bits.
"""

import ml_collections

from configs.compress import lenet300_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet300_fashion_mnist.get_config()
    config.train.steps = 12 * 429
    config.optimizer.schedule = "cosine"
    config.prune.levels = (8, 10, 12, 14, 16, 18)
    config.quantize.update(bits=(3, 4), other_bits=5)
    return config
