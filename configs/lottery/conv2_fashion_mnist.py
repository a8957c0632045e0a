r"""Lottery tickets of a narrow Conv-2 on Fashion-MNIST: the paper's protocol, short.

    python -m lottery.main --config=configs/lottery/conv2_fashion_mnist.py \
        --workdir=runs/conv2_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

A quarter of the channels and units (208,058 parameters), Adam 3e-4, batch 60, one epoch a level,
two replicates; convolutions 10 %, dense layers 20 %, the output layer 10 % a level; rewound to
step 0. The files come as `lenet_fashion_mnist.py` says.
Source of the protocol: Frankle & Carbin, arXiv:1803.03635, Figure 2; theirs, whole, is
`conv2_cifar10.py`.
Departs: Fashion-MNIST for CIFAR-10, a quarter of the width, 917 steps for 20,000, and so 3e-4 for
2e-4, 8 levels for about 20.
Hours: a tenth of one on two cores with oneDNN (`make cpu`): 6 min 36 s beside other work; without
it about two thirds of one.
"""

from configs.lottery import lenet_fashion_mnist


def get_config():
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
