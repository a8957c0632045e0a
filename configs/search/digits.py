"""Which network of 3,000 bytes tells digits apart best? This is the smoke test: two minutes.

    python -m compress.search --config=configs/search/digits.py --workdir=runs/search_digits

LeNet-300-100 on scikit-learn's 8×8 digits: densities and bits of its three layers, in six
candidates, of which the first ones are analytic and uniform choices.
"""

import ml_collections

from configs.search import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.budget.bytes = 3000
    config.evaluations = 6
    config.replicates = 2
    config.space.densities = (0.25, 0.12, 0.06, 0.03)
    config.space.bits = (4, 2)
    config.search.update(around=(3.0, 1.0, 0.7), uniform=1, rungs=(2, 3), population=6)
    config.search.update(finalists=1, examples=512)
    return config
