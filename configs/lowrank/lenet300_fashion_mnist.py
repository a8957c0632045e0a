r"""How few multiply-adds do the dense layers of LeNet-300-100 need on Fashion-MNIST?

    python -m lowrank.main --config=configs/lowrank/lenet300_fashion_mnist.py \
        --workdir=runs/lowrank_lenet300 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The setting is that of `lenet5_fashion_mnist.py`. The methods are SVD of the weights and of the
outputs, and each plan is also trained from its decomposed initialisation. The run also measures how
well a share of the first layer's weights predicts the rest. It takes 6 min 4 s on two shared cores.
Sources: Khodak et al., arXiv:2105.01029 (spectral initialisation); Denil et al., arXiv:1306.0543.
"""

import ml_collections

from configs.lowrank import lenet5_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet5_fashion_mnist.get_config()
    config.model.name = "lenet_300_100"
    config.predict = ("fc1",)
    config.decompose.methods = ("svd", "svd_outputs")
    config.decompose.shares = (0.5, 0.33, 0.2, 0.1, 0.05)
    config.decompose.scratch = True
    return config
