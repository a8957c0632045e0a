"""What do fewer units cost? This is the smoke test, without files.

    python -m pruning.main --config=configs/pruning/digits.py --workdir=runs/pruning_digits

LeNet-300-100 on scikit-learn's 8×8 digits loses half and 90 % of its units, in three
replicates; the layers that are left make up for them by least squares.
"""

import ml_collections

from configs.pruning import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.prune.ratio = (0.5, 0.9)
    config.prune.compensate = "least_squares"
    config.branches.update(scratch_e=True, scratch_b=True, random_units=True)
    config.fine_tune_optimizer.update(config.optimizer)  # whose program is compiled already
    return config
