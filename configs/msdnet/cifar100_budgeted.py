r"""What do budgeted batches reach on CIFAR-100, with networks of 10 to 36 layers and growing spans?

    python -m msdnet.main --config=configs/msdnet/cifar100_budgeted.py:5 \
        --workdir=runs/msdnet_cifar100_15

The setting is that of `cifar10_budgeted.py`, which explains the number after the colon.
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A.
Hours: they are not known, since this has not been run. It is meant for a GPU.
"""

import ml_collections

from configs.msdnet import cifar10_budgeted


def get_config(exits: str = "5") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = cifar10_budgeted.get_config(exits)
    config.data.name = "cifar100"
    return config
