r"""Tickets of a narrow ResNet-20 on Fashion-MNIST, rewound to a tenth of its training: short.

    python -m lottery.main --config=configs/lottery/resnet20_fashion_mnist.py \
        --workdir=runs/resnet20_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

Half of the channels (67,906 parameters), SGD with momentum 0.9 and weight decay 1e-4, rate 0.1,
times 0.1 after two thirds and five sixths of one epoch of 429 steps; batch 128, two replicates;
half of what remains in all convolutions together a level, the output layer never; rewound to step
43. The files come as `lenet_fashion_mnist.py` says.
Source of the protocol: Frankle et al., arXiv:1903.01611; theirs, whole, is `resnet20_cifar10.py`.
Departs: Fashion-MNIST for CIFAR-10, no augmentation, half the width, 429 steps for 30,000, and 50 %
a level for 20 %, so that four levels reach a density of 0.07.
Hours: a sixth of one on two cores with oneDNN (`make cpu`), reckoned from its last training (69 s);
the six before ran beside other work and took 3 to 4.5 minutes each.
"""

from configs.lottery import lenet_fashion_mnist


def get_config():
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
