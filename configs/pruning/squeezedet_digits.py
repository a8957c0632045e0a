r"""How few channels does a detector need? SqueezeDet finds handwritten digits on canvases.

    python -m pruning.main --config=configs/pruning/squeezedet_digits.py \
        --workdir=runs/pruning_squeezedet

The small form at half its width learns 2,000 canvases of 64×64 pixels with one to four of
scikit-learn's digits each, then loses 30 % and half of its channels. The tables show mean average
precision at an overlap of 0.5 beside the share of objects that are right, and the page shows boxes
on test canvases.
Source: Wu et al., arXiv:1612.01051, for the network and its loss; the data are this project's.
"""

import ml_collections

from configs.compress.squeezedet_digits import detect
from configs.pruning import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    detect(config)
    config.prune.ratio = (0.3, 0.5)
    return config
