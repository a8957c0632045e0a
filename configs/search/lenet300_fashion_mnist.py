r"""Which file of LeNet-300-100 of at most 4,980 bytes classifies Fashion-MNIST best?

    python -m compress.search --config=configs/search/lenet300_fashion_mnist.py \
        --workdir=runs/search_lenet300 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The setting is that of `lenet5_fashion_mnist.py`, with 6 epochs for the original and two for a
round. `../compress/lenet300_fashion_mnist.py` is the pipeline that was made by hand: give its run
as --config.search.baselines="('runs/compress_lenet300',)".
"""

import ml_collections

from configs.search import lenet5_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet5_fashion_mnist.get_config()
    config.model.name = "lenet_300_100"
    config.train.steps = 6 * 429
    config.budget.bytes = 4980
    config.accuracy.loss = -1.0
    config.evaluations = 12
    config.space.densities = (0.5, 0.25, 0.12, 0.07, 0.045, 0.03, 0.024, 0.019, 0.015, 0.012)
    config.space.densities += (0.0095, 0.0075)
    config.search.around = (8.0, 4.0, 2.0, 1.4, 1.0, 0.8)
    config.search.steps = 2 * 429
    config.search.rungs = (2, 4)
    config.fine_tune.steps = 6 * 429
    return config
