"""Do easy digits leave early? This is the smoke test: it takes less than a minute, without files.

    python -m msdnet.main --config=configs/msdnet/digits.py --workdir=runs/msdnet_digits

A network with three exits and both controls are trained on scikit-learn's 8×8 digits, padded to
16×16, in two replicates.
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
    config.networks = ("msdnet", "resnet_exits", "resnets")
    config.msdnet.update(blocks=3, base=1, step=1, channels=8, growth=4)
    config.msdnet.update(growth_factors=(1, 2), bottleneck_factors=(1, 2))
    config.resnet_exits.update(width=0.5, blocks=1)
    config.resnets.update(width=0.5, blocks=(1, 2))
    return config
