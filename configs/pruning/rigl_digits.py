"""Can a network be sparse all through its training? RigL on scikit-learn's digits, without files.

    python -m pruning.main --config=configs/pruning/rigl_digits.py --workdir=runs/rigl_digits

LeNet-300-100 begins with a random tenth of its weights, more of them in small layers. Every 20
steps each layer drops the smallest and grows as many where the gradient is largest.
`--config.prune.method=set` grows at random, and `static` changes nothing.
Source: Evci et al., arXiv:1911.11134.
"""

import ml_collections

from configs.pruning import weights


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = weights.get_config()
    config.prune.update(method="rigl", density=0.1, scope="erdos_renyi_kernel")
    return config
