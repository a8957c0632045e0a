"""Do classifiers on the layers of a VGG-11 let easy digits leave early? It takes 90 s.

    python -m msdnet.main --config=configs/msdnet/heads_digits.py --workdir=runs/heads_digits

A VGG-11 of an eighth of the width has classifiers after its first three groups, a ResNet-20 of a
quarter has them after its first two stages; both are trained beside a network with three exits on
scikit-learn's 8×8 digits, padded to 16×16, one replicate each.
"""

import ml_collections

from configs.msdnet import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 1
    config.eval_every = 60
    config.data.update(validation_examples=300, pad=4)
    config.train.update(steps=120, batch_size=64)
    config.optimizer.drop_steps = (80, 105)
    config.networks = ("msdnet", "heads", "heads_2")
    config.msdnet.update(blocks=3, base=1, step=1, channels=8, growth=4)
    config.msdnet.update(growth_factors=(1, 2), bottleneck_factors=(1, 2))
    config.heads.update(layers=("bn1_1", "bn2_1", "bn3_2"))
    config.heads.model.width = 0.125
    config.heads_2.model.width = 0.25
    return config
