"""Do tickets exist on scikit-learn's digits? The smoke test takes seconds and no files.

    python -m lottery.main --config=configs/lottery/digits.py --workdir=runs/digits

LeNet-300-100 is trained on 8×8 digits, with three rounds of layerwise pruning and three controls.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.data.validation_examples = 200
    config.eval_every = 50
    config.train.steps = 200
    config.prune.rate = {"*": 0.5, "output": 0.25}
    config.branches.random_reinit = "all"
    config.branches.random_mask = "all"
    config.branches.small_dense = (3,)
    return config
