"""Can a network lose weights while it trains? Gradual pruning on digits, without files.

    python -m pruning.main --config=configs/pruning/gradual_digits.py --workdir=runs/gradual_digits

LeNet-300-100 begins dense. Between a tenth and three quarters of the training, every 20 steps, the
smallest weights go, many at first and few at the end, until a tenth and a twentieth are left.
Source: Zhu & Gupta, arXiv:1710.01878.
"""

import ml_collections

from configs.pruning import weights


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = weights.get_config()
    config.prune.update(method="gradual", density=(0.1, 0.05), begin=0.1)
    return config
