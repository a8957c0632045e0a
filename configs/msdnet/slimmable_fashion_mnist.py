r"""Does one set of weights serve at four widths on Fashion-MNIST, beside networks of each width?

    python -m msdnet.main --config=configs/msdnet/slimmable_fashion_mnist.py \
        --workdir=runs/slimmable_fashion --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

A VGG-11 of an eighth of its width, 145,410 parameters at full width, is trained at four widths at
once for 2 epochs of 429 batches of 128 with Nesterov momentum, one replicate; the rate is 0.1,
times 0.1 after a half and three quarters. The same widths are trained apart, with as many steps
each; and a ResNet with six classifiers shows what early exits reach. Images are padded to 32×32.
`make cpu` comes first; `../lottery/lenet_fashion_mnist.py` says where the files come from.
Source: Yu et al., arXiv:1812.08928, whose widths these are.
Departs: this has Fashion-MNIST without augmentation and a narrow VGG-11; the source has ImageNet.
"""

import ml_collections

from configs.msdnet import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 1
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000, pad=2)
    config.train.update(steps=858, batch_size=128)
    config.optimizer.drop_steps = (429, 643)
    config.networks = ("slimmable", "separate", "resnet_exits")
    config.slimmable.model.update(name="vgg_11", width=0.125)
    config.resnet_exits.update(width=0.375, blocks=2)
    return config
