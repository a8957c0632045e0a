"""Does an assistant between teacher and student help? This takes a minute on two cores.

    python -m compress.main --config=configs/compress/chain_digits.py --workdir=runs/compress_chain

LeNet-300-100 on scikit-learn's 8×8 digits teaches one of a quarter of its width, which teaches one
of a twentieth (15 and 5 units). Beside it stand the same student without a teacher (`alone`)
and the one that LeNet-300-100 teaches itself (`direct`), from the same initial values and in the
same order. `--config.distill.assistants="()" --config.distill.controls="('alone',)"
--config.distill.mutual=2` lets two such students teach each other instead, and
`--config.distill.hints="(('fc2','fc2'),)"` in its place gives hints.
Source: Mirzadeh et al., arXiv:1902.03393.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.data.validation_examples = 200
    config.stages = ("distill",)
    config.distill.update(
        model=dict(name="lenet_300_100", width=0.05),
        assistants=(dict(name="lenet_300_100", width=0.25),),
        controls=("alone", "direct"),
    )
    return config
