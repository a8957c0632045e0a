r"""How few multiply-adds does LeNet-5 need on Fashion-MNIST, and how much time does that save?

    python -m lowrank.main --config=configs/lowrank/lenet5_fashion_mnist.py \
        --workdir=runs/lowrank_lenet5 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network is trained for 6 epochs of 429 batches of 128 (Adam 1.2e-3) and decomposed to a half, a
third and a fifth of its multiply-adds by five methods. Each result is fine-tuned for 2 epochs (Adam
3e-4, cosine). There are three replicates, and 5,000 training images are held out.
`../lottery/lenet_fashion_mnist.py` says where the files come from; `make cpu` comes first.
A trained network saves the training: `--config.source.path=runs/lenet5`.
Sources: Zhang et al., arXiv:1505.06798; Jaderberg et al., arXiv:1405.3866; Kim et al.,
arXiv:1511.06530.
"""

import ml_collections

from configs.lowrank import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.model.name = "lenet_5"
    config.train.update(steps=6 * 429, batch_size=128)
    config.decompose.methods = ("svd", "svd_outputs", "spatial", "tucker", "any")
    config.decompose.shares = (0.5, 0.33, 0.2)
    config.fine_tune.update(steps=2 * 429, batch_size=128)
    return config
