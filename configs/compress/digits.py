"""How small a file still tells digits apart? This is the smoke test: 45 seconds on two cores.

    python -m compress.main --config=configs/compress/digits.py --workdir=runs/compress_digits

LeNet-300-100 on scikit-learn's 8×8 digits is pruned by 20 % per level and rewound, up to two
levels, and then quantised by k-means to 3 and to 4 bits.
Source: Han, Mao & Dally, arXiv:1510.00149.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.data.validation_examples = 200
    config.prune.levels = (6, 10)
    config.quantize.bits = (3, 4)
    return config
