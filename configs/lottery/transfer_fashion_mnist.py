r"""Do tickets serve other data and other optimisers? LeNet-300-100 on Fashion-MNIST.

    python -m lottery.main --config=configs/lottery/transfer_fashion_mnist.py \
        --workdir=runs/fashion \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
    python -m lottery.main --config=configs/lottery/transfer_fashion_mnist.py \
        --workdir=runs/by_sgd --config.ticket.source=runs/fashion \
        --config.optimizer.name=momentum --config.optimizer.learning_rate=0.05 \
        --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist

The first command finds tickets and trains controls; the second one trains the same tickets by
another optimiser. `launch/reproduce/transfer_fashion_mnist.sh` has these and other pairs: halves of
the classes, and digits. The network is trained with batch 128 for 3 epochs per level. Each of 7
rounds prunes 40 % (20 % of the output layer) and rewinds to step 0; transferred tickets and
controls are trained at densities 0.22, 0.08 and 0.03.
Source of the question: Morcos et al., arXiv:1906.02773. Departs: the paper has VGG-19 and ResNet-50
on larger data, prunes 20 % of all layers together, and rewinds to the end of the first epoch.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 7
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=3 * 429, batch_size=128)
    config.eval_every = 143
    config.prune.rate = {"*": 0.4, "output": 0.2}
    config.ticket.levels = (3, 5, 7)
    config.branches.random_reinit = (3, 5, 7)
    config.branches.random_mask = (3, 5, 7)
    return config
