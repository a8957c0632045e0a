"""Does one set of weights serve at three widths? This is the smoke test of slimmable networks.

    python -m msdnet.main --config=configs/msdnet/slimmable_digits.py --workdir=runs/slim_digits

LeNet-5 is trained at a quarter, a half and all of its width at once on scikit-learn's 8×8 digits,
padded to 16×16, in two replicates; the same widths are trained apart, and a ResNet with classifiers
beside them. LeNet-5 has no BatchNorm, so its widths share everything. No files are needed.
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
    config.optimizer.update(learning_rate=0.02, drop_steps=(80, 105))
    config.networks = ("slimmable", "separate", "resnet_exits")
    config.slimmable.model.update(name="lenet_5", width=0.5)
    config.slimmable.widths = (0.25, 0.5, 1.0)
    config.resnet_exits.update(width=0.5, blocks=1)
    return config
