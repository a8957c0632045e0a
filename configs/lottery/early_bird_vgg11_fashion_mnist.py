r"""Is the early-bird ticket of a narrow VGG-11 on Fashion-MNIST as good as the one of the end?

    python -m lottery.early_bird.main \
        --config=configs/lottery/early_bird_vgg11_fashion_mnist.py \
        --workdir=runs/early_bird_vgg11 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has a quarter of the channels; images have a border of two pixels, so that they can be
halved five times. The dense network is trained by SGD with momentum 0.9, weight decay 1e-4 and
batch 128 for 1,560 steps, 3.6 passes over the data, in two replicates; the rate is 0.1, times 0.1
after half and three quarters. The loss has 1e-4 times the sum of the absolute scales of BatchNorm.
A mask is drawn 20 times, every 78 steps, which the report calls epochs; it lacks the 30 % of the
channels whose scales are the smallest in all layers together. The ticket and its controls are
trained for half as long as the dense network.
`lenet_fashion_mnist.py` says where the files come from.
Source: You et al., arXiv:1909.11957. Published, of VGG-16 on CIFAR-100 with 30 % of the channels
gone: 72.17 % of the early ticket, 71.48 % if it is initialised anew, 71.31 % of the ticket of the
end; the early ticket is found within about 20 of 160 epochs.
Departs: another network and data; masks are drawn at every twentieth of a short training, theirs at
every 160th of a long one; the ticket's training begins at a rate of 0.05, with a cosine.
It took 21 minutes on two cores beside other work. It needs `make cpu` on a CPU.
"""

import ml_collections

from configs.lottery import early_bird_base

EPOCH = 78  # steps between two masks: a fifth of a pass over the data, about


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = early_bird_base.get_config()
    config.replicates = 2
    config.eval_every = EPOCH
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000, pad=2)
    config.model.update(name="vgg_11", width=0.25)
    config.train.update(steps=20 * EPOCH, batch_size=128)
    config.early_bird.update(ratio=0.3, every=EPOCH)
    config.fine_tune.update(steps=10 * EPOCH, batch_size=128)
    for optimizer in (config.optimizer, config.fine_tune_optimizer):
        optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.update(schedule="step", drop_steps=(10 * EPOCH, 15 * EPOCH))
    config.fine_tune_optimizer.learning_rate = 0.05
    return config
