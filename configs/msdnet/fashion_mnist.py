r"""Does a multi-scale dense network spend computation better than a ResNet on Fashion-MNIST?

    python -m msdnet.main --config=configs/msdnet/fashion_mnist.py \
        --workdir=runs/msdnet_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

Images are padded to 32×32. The network has five exits and takes 5.2 million multiply-adds at the
last. It is trained for 8 epochs of 429 batches of 128 with Nesterov momentum, in two replicates;
the rate is 0.1, times 0.1 after a half and three quarters; 5,000 training images are held out for
thresholds. That takes 8 minutes for one replicate and 15 for both on two idle cores. Both controls
are trained beside it: one ResNet with six classifiers, and four ResNets of growing depth.
`../lottery/lenet_fashion_mnist.py` says where the files come from; `make cpu` comes first.
Source of the protocol: Huang et al., arXiv:1703.09844, Section 5.
Departs: this has Fashion-MNIST without augmentation, a narrow network with narrow classifiers, 8
epochs for 300, batches of 128 for 64, and controls of its size.
"""

import ml_collections

from configs.msdnet import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 2
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000, pad=2)
    config.train.update(steps=3432, batch_size=128)
    config.optimizer.drop_steps = (1716, 2574)
    config.networks = ("msdnet", "resnet_exits", "resnets")
    config.msdnet.update(blocks=5, base=1, step=1, channels=6, growth=4, head=32)
    config.resnet_exits.update(width=0.375, blocks=2)
    config.resnets.update(width=0.25, blocks=(1, 2, 3, 4))
    return config
