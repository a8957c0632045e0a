r"""The smallest file of LeNet-300-100 that loses at most one point on Fashion-MNIST.

    python -m compress.main --config=configs/compress/lenet300_smallest.py \
        --workdir=runs/compress_smallest --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

As `lenet300_fashion_mnist.py`, with twice the training at every level under a cosine schedule,
further levels, two or three bits a weight, and five for biases.
"""

from configs.compress import lenet300_fashion_mnist


def get_config():
    """See the module's docstring."""
    config = lenet300_fashion_mnist.get_config()
    config.train.steps = 12 * 429
    config.optimizer.schedule = "cosine"
    config.prune.levels = (20, 21, 22, 23, 24)
    config.quantize.update(bits=(2, 3), other_bits=5)
    return config
