r"""Which 5 MB of a network that somebody else trained answer most as it does? Nothing is trained.

    python -m compress.search --config=configs/search/efficientnet_lite0.py \
        --workdir=runs/search_efficientnet_lite0

EfficientNet-Lite0 with its authors' ImageNet weights, judged on 600 crops of photographs: by the
share for which it names the class that the original names (`agreement`). Each layer gets 4 to 10
bits, by k-means, or fewer ranks; biases make up for the mean errors of rounded weights. What layers
bear is seen on 64 crops of other photographs. `../compress/efficientnet_lite0.py` says what to
install, and has the uniform grids of 8 and 4 bits.
"""

import ml_collections

from configs.compress import efficientnet_lite0
from configs.search import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    made_by_hand = efficientnet_lite0.get_config()
    config = base.get_config()
    config.replicates = 1
    config.data.update(name="photographs", source="photographs", image_size=224)
    config.data.update(mean=made_by_hand.data.mean, std=made_by_hand.data.std)
    config.loss = made_by_hand.loss
    config.model.name = made_by_hand.model.name
    config.model.kwargs = {"activation": "relu6"}
    config.source.path = made_by_hand.source.path
    config.budget.bytes = 5_000_000
    config.evaluations = 10
    config.space.update(densities=(), bits=(10, 9, 8, 7, 6, 5, 4))
    config.space.update(methods=("svd",), ranks=(0.75, 0.5))
    config.search.update(steps=0, rungs=(1,), examples=64, around=(1.3, 1.0, 0.7, 0.4), uniform=3)
    config.train.batch_size = config.fine_tune.batch_size = 64
    config.fine_tune.steps = 0
    config.quantize.other_bits = 0
    return config
