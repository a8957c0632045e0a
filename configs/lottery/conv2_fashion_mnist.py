r"""Does a narrow Conv-2 have lottery tickets on Fashion-MNIST? The paper's protocol, in short.

    python -m lottery.main --config=configs/lottery/conv2_fashion_mnist.py \
        --workdir=runs/conv2_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has a quarter of the channels and units (208,058 parameters). It is trained by Adam
(3e-4) with batch 60 for one epoch per level, in two replicates. A level prunes 10 % in the
convolutions, 20 % in the dense layers and 10 % in the output layer, and rewinds to step 0.
`lenet_fashion_mnist.py` says where the files come from.
Source of the protocol: Frankle & Carbin, arXiv:1803.03635, Figure 2; `conv2_cifar10.py` is theirs,
whole.
Departs: this has Fashion-MNIST for CIFAR-10, a quarter of the width, 917 steps for 20,000 (and so
3e-4 for 2e-4), and 8 levels for about 20.
Hours: it takes a tenth of one on two cores with oneDNN (`make cpu`; 6 min 36 s beside other work),
and about two thirds of one without it.
"""

import ml_collections

from configs.lottery import lenet_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet_fashion_mnist.get_config()
    config.replicates = 2
    config.levels = 8
    config.eval_every = 300
    config.model.update(name="conv_2", width=0.25)
    config.train.update(steps=917, batch_size=60)
    config.optimizer.learning_rate = 3e-4
    config.prune.rate = {"conv*": 0.1, "fc*": 0.2, "output": 0.1}
    config.branches.random_reinit = (4, 8)
    config.branches.random_mask = (8,)
    config.branches.small_dense = (8,)
    return config
