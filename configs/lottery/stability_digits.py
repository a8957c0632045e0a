r"""From which step on do two copies of a network end in one valley? Digits; seconds, no files.

    python -m lottery.stability.main --config=configs/lottery/stability_digits.py \
        --workdir=runs/stability_digits

LeNet-300-100 is trained on 8×8 digits to each of some steps, and two copies go on from there with
other data orders. Tickets stand beside the dense network if a finished run of lottery.main with the
same training is named: `--config.stability.source=runs/digits --config.stability.levels="(3,)"`.
Source of the protocol: Frankle et al., arXiv:1912.05671.
"""

import ml_collections

from configs.lottery import stability_base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = stability_base.get_config()
    config.data.validation_examples = 200
    config.eval_every = 50
    config.train.steps = 200
    config.stability.steps = (0, 10, 50)
    return config
