r"""What do fewer ranks cost in convolutions? This is the smoke test, on digits padded to 28×28.

    python -m lowrank.main --config=configs/lowrank/lenet5_digits.py \
        --workdir=runs/lowrank_lenet5_digits

LeNet-5 is decomposed by every method at one budget, on scikit-learn's digits, in two replicates;
`make cpu` comes first. It takes 2 min 40 s on two shared cores, of which 64 s go to the search for
the candidates of CP.
"""

import ml_collections

from configs.lowrank import digits


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = digits.get_config()
    config.replicates = 2
    config.data.pad = 10
    config.model.name = "lenet_5"
    config.predict = ()
    config.train.steps = 200
    config.decompose.methods = ("svd", "svd_outputs", "spatial", "tucker", "cp", "any")
    config.decompose.shares = (0.33,)
    config.fine_tune.steps = 100
    return config
