"""What do fewer ranks cost? This is the smoke test: 84 s on two shared cores, without files.

    python -m lowrank.main --config=configs/lowrank/digits.py --workdir=runs/lowrank_digits

LeNet-300-100 is decomposed on scikit-learn's 8×8 digits by SVD and by its data-aware form, in three
replicates.
"""

import ml_collections

from configs.lowrank import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.data.validation_examples = 300
    config.predict = ("fc1",)
    config.decompose.methods = ("svd", "svd_outputs")
    config.decompose.shares = (0.5, 0.25, 0.1)
    return config
