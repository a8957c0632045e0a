r"""What is the smallest file of LeNet-300-100 that loses at most one point on Fashion-MNIST?

    python -m compress.main --config=configs/compress/lenet300_smallest.py \
        --workdir=runs/compress_smallest --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The setting is that of `lenet300_fashion_mnist.py` at its last levels, with three bits for each
weight, five for biases, and three times the fine-tuning.
"""

import ml_collections

from configs.compress import lenet300_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet300_fashion_mnist.get_config()
    config.prune.levels = (20, 21, 22)
    config.quantize.update(bits=(3,), other_bits=5)
    config.fine_tune.steps = 12 * 429
    return config
