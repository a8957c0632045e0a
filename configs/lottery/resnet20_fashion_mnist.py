r"""Does a narrow ResNet-20 have tickets on Fashion-MNIST, rewound to a tenth of a short training?

    python -m lottery.main --config=configs/lottery/resnet20_fashion_mnist.py \
        --workdir=runs/resnet20_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has half of the channels (67,906 parameters). It is trained by SGD with momentum 0.9,
weight decay 1e-4 and batch 128 for one epoch of 429 steps, in two replicates; the rate is 0.1,
times 0.1 after two thirds and five sixths of the epoch. A level prunes half of what remains in all
convolutions together, never the output layer, and rewinds to step 43. `lenet_fashion_mnist.py` says
where the files come from.
Source of the protocol: Frankle et al., arXiv:1903.01611; `resnet20_cifar10.py` is theirs, whole.
Departs: this has Fashion-MNIST for CIFAR-10, no augmentation, half the width, 429 steps for 30,000,
and 50 % per level for 20 %, so that four levels reach a density of 0.07.
Hours: it takes a sixth of one on two cores with oneDNN (`make cpu`), reckoned from its last
training (69 s); the six before that ran beside other work and took 3 to 4.5 minutes each.
"""

import ml_collections

from configs.lottery import lenet_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = lenet_fashion_mnist.get_config()
    config.replicates = 2
    config.levels = 4
    config.eval_every = 143
    config.model.update(name="resnet_20", width=0.5)
    config.train.update(steps=429, batch_size=128)
    config.optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.update(schedule="step", drop_steps=(286, 358))
    config.prune.update(rate={"*": 0.5, "output": 0.0}, scope="global")
    config.rewind.step = 43
    config.branches.random_reinit = (4,)
    config.branches.random_mask = (4,)
    config.branches.small_dense = ()
    return config
