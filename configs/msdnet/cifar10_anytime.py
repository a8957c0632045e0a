r"""What does anytime prediction reach on CIFAR-10? The paper's network: 24 layers, 11 exits.

    python -m msdnet.main --config=configs/msdnet/cifar10_anytime.py \
        --workdir=runs/msdnet_cifar10

Exit i comes after layer 2 (i + 1). The network is trained for 300 epochs of 703 batches of 64 with
Nesterov momentum and weight decay 1e-4; the rate is 0.1, times 0.1 after a half and three quarters.
Images are cropped and flipped, and 5,000 training images are held out for thresholds.
CIFAR-10 comes through TFDS (`pip install -r requirements-tfds.txt`).
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A.
Departs: the controls are a ResNet-20 with a classifier after each of its nine blocks, and
ResNet-8, -20, -32 and -56 in turn, for the paper's ResNet-62 and its ensemble.
Hours: they are not known, since this has not been run. It is meant for a GPU.
"""

import ml_collections

from configs.msdnet import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 703
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.data.update(stream=True, augment="crop_flip")
    config.train.update(steps=210900, batch_size=64)
    config.optimizer.drop_steps = (105450, 158175)
    config.networks = ("msdnet", "resnet_exits", "resnets")
    config.msdnet.blocks = 11
    config.resnets.blocks = (1, 3, 5, 9)
    return config
