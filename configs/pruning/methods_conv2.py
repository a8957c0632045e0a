r"""Which way to a sparse network keeps most accuracy, where there are convolutions?

    python -m pruning.main --config=configs/pruning/methods_conv2.py \
        --workdir=runs/methods_conv2_one --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

As `methods_fashion_mnist.py`, but with an eighth of Conv-2's channels and units (52,258
parameters) and one epoch of 429 steps, for fine-tuning too. `launch/reproduce/methods_conv2.sh`
runs all methods and tickets. It needs `make cpu` on a CPU.
"""

import ml_collections

from configs.pruning import methods_fashion_mnist
from configs.pruning.methods_fashion_mnist import EPOCH


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = methods_fashion_mnist.get_config()
    config.model.update(name="conv_2", width=0.125)
    config.train.steps = EPOCH
    config.optimizer.drop_steps = (286,)
    config.prune.update(every=20, scope="global")
    config.fine_tune.steps = EPOCH
    return config
