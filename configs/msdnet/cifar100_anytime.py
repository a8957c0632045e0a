r"""What does anytime prediction reach on CIFAR-100, with the seven exits of the PyTorch port?

    python -m msdnet.main --config=configs/msdnet/cifar100_anytime.py \
        --workdir=runs/msdnet_cifar100

As in that port's command, 16 layers have exits after 4, 6, … 16 of them. The network has 3,067,960
parameters and takes 75.5 million multiply-adds at the last exit. It is trained for 300 epochs of
703 batches of 64 with Nesterov momentum and weight decay 1e-4; the rate is 0.1, times 0.1 after a
half and three quarters. Images are cropped and flipped, and 5,000 training images are held out for
thresholds.
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A; `cifar10_anytime.py` has the
paper's own 24 layers.
Hours: they are not known, since this has not been run. It is meant for a GPU.
"""

import ml_collections

from configs.msdnet import cifar10_anytime


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = cifar10_anytime.get_config()
    config.data.name = "cifar100"
    config.msdnet.blocks = 7
    return config
