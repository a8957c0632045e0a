"""The convolutional smoke test: LeNet-5 on scikit-learn's digits, padded to 28×28.

    python -m lowrank.main --config=configs/lowrank/lenet5_digits.py \\
        --workdir=runs/lowrank_lenet5_digits

Every method at one budget, two replicates; `make cpu` first. 2 min 40 s on two shared
cores, of which 64 s look for the candidates of CP.
"""

from configs.lowrank import digits


def get_config():
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
