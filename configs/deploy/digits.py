"""How fast are the engines of phones and servers? This is the smoke test, without files.

    python -m deploy.main --config=configs/deploy/digits.py --workdir=runs/deploy_digits

A small LeNet-5 learns scikit-learn's digits, padded to 16×16, and is written for every engine that
is installed, as floats and as 8-bit integers; all are measured beside JAX on one and two threads.
A run of another command takes the place of that network with `--source=runs/lowrank_digits`.
"""

import ml_collections

from configs.deploy import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.data.pad = 4
    config.calibration.examples = 1000
    config.model.update(name="lenet_5", width=0.5)
    config.train.steps = 200
    config.measure.update(rounds=5, seconds=0.05, warmup_seconds=0.05)
    return config
