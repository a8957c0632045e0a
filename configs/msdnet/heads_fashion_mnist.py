r"""Do classifiers on a plain network's layers spend computation as well as MSDNet's do?

    python -m msdnet.main --config=configs/msdnet/heads_fashion_mnist.py \
        --workdir=runs/heads_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

A VGG-11 of an eighth of the width has classifiers after each of its first four groups, a ResNet-20
of three eighths has them after each residual block but the last; MSDNet is that of
`fashion_mnist.py`. All are trained for 2 epochs of 429 batches of 128 with Nesterov momentum, one
replicate; the rate is 0.1, times 0.1 after a half and three quarters. `make cpu` comes first.
Source of the protocol: Huang et al., arXiv:1703.09844, Section 5.
Departs: as `fashion_mnist.py`, with 2 epochs instead of its 8.
"""

import ml_collections

from configs.msdnet import fashion_mnist

BLOCKS = tuple(f"block{stage}_{block}" for stage in (1, 2, 3) for block in (1, 2, 3))


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = fashion_mnist.get_config()
    config.replicates = 1
    config.train.steps = 858
    config.optimizer.drop_steps = (429, 643)
    config.networks = ("msdnet", "heads", "heads_2")
    config.heads.model.width = 0.125
    config.heads_2.layers = BLOCKS[:-1]
    config.heads_2.model.width = 0.375
    return config
