r"""Anytime prediction on CIFAR-100 with the seven exits of the PyTorch port's command.

    python -m msdnet.main --config=configs/msdnet/cifar100_anytime.py \
        --workdir=runs/msdnet_cifar100

16 layers, exits after 4, 6, … 16; 3,067,960 parameters, 75.5 million multiply-adds at the last.
300 epochs of 703 batches of 64, Nesterov momentum, rate 0.1, times 0.1 after a half and three
quarters, weight decay 1e-4, crops and flips; 5,000 training images held out for thresholds.
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A; `cifar10_anytime.py` has the
paper's own 24 layers.
Hours: not known; this has not been run. It is meant for a GPU.
"""

from configs.msdnet import cifar10_anytime


def get_config():
    """See the module's docstring."""
    config = cifar10_anytime.get_config()
    config.data.name = "cifar100"
    config.msdnet.blocks = 7
    return config
