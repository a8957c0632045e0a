r"""What do budgeted batches reach on CIFAR-10, with networks of 10 to 36 layers and growing spans?

    python -m msdnet.main --config=configs/msdnet/cifar10_budgeted.py:5 \
        --workdir=runs/msdnet_cifar10_15

What follows the colon is the number of exits, 4 to 8 (5 without it): exit i comes after
1 + 2 + … + i layers, so that spans grow linearly and the networks have 10, 15, 21, 28 or 36 layers.
The paper's budgeted curve is the best of these networks at each budget. Recipe and controls are
those of `cifar10_anytime.py`.
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A.
Hours: they are not known, since this has not been run. It is meant for a GPU.
"""

import ml_collections

from configs.msdnet import cifar10_anytime


def get_config(exits: str = "5") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = cifar10_anytime.get_config()
    config.msdnet.update(blocks=int(exits), base=1, step=1, step_mode="lin_grow")
    return config
