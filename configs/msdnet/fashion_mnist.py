r"""Does a multi-scale dense network spend its computation better than a ResNet? On Fashion-MNIST.

    python -m msdnet.main --config=configs/msdnet/fashion_mnist.py \
        --workdir=runs/msdnet_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

Images padded to 32×32; five exits, 5.2 million multiply-adds at the last; 8 epochs of 429 batches
of 128, Nesterov momentum, rate 0.1, times 0.1 after a half and three quarters; two replicates;
5,000 training images held out for thresholds. On two idle cores 8 minutes for one replicate, 15
for both. Beside it both controls: one ResNet with six classifiers, four ResNets of growing depth.
The files come as `../lottery/lenet_fashion_mnist.py` says; `make cpu` first.
Source of the protocol: Huang et al., arXiv:1703.09844, Section 5.
Departs: Fashion-MNIST without augmentation, a narrow network with narrow classifiers, 8 epochs for
300, batches of 128 for 64, controls of its size.
"""

from configs.msdnet import base


def get_config():
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
