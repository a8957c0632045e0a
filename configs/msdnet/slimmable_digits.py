"""Does one set of weights serve at two widths? This is the smoke test of slimmable networks.

    python -m msdnet.main --config=configs/msdnet/slimmable_digits.py --workdir=runs/slim_digits

A very narrow VGG-11 is trained whole and at half of its width at once on scikit-learn's 8×8 digits,
padded to 16×16, in two replicates; the same widths are trained apart, and a ResNet with classifiers
beside them. It takes a minute, without files, most of it for compiling.
"""

import ml_collections

from configs.msdnet import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 2
    config.eval_every = 60
    config.data.update(validation_examples=300, pad=4)
    config.train.update(steps=120, batch_size=64)
    config.optimizer.drop_steps = (80, 105)
    config.networks = ("slimmable", "separate", "resnet_exits")
    config.slimmable.model.update(name="vgg_11", width=0.0625)
    config.slimmable.widths = (0.5, 1.0)
    config.resnet_exits.update(width=0.5, blocks=1)
    return config
