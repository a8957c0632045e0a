r"""Are early-bird tickets found on scikit-learn's digits? The smoke test, without files.

    python -m lottery.early_bird.main --config=configs/lottery/early_bird_digits.py \
        --workdir=runs/early_bird_digits

Four narrow convolutions with BatchNorm are trained for 12 epochs, in two replicates. After each of
them a mask keeps those 70 % of the channels that have the largest scales.
Source: You et al., arXiv:1909.11957.
"""

import ml_collections

from configs.lottery import early_bird_base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = early_bird_base.get_config()
    config.replicates = 2
    config.early_bird.ratio = 0.3
    for optimizer in (config.optimizer, config.fine_tune_optimizer):
        optimizer.learning_rate = 5e-3
    return config
