r"""What do the paper's ImageNet networks reach? Exit i of five comes after layer k × i + 3.

    python -m msdnet.main --config=configs/msdnet/imagenet.py:4 \
        --workdir=runs/msdnet_imagenet_4

What follows the colon is k: 4, 6 or 7 (4 without it). The networks have four scales. They are
trained for 90 epochs of 4,809 batches of 256 with Nesterov momentum and weight decay 1e-4, in one
replicate; the rate is 0.1, times 0.1 after 30 and 60 epochs. Images are cropped at random to 224
and flipped, and 50,000 training images are held out for thresholds.
Source: Huang et al., arXiv:1703.09844, Section 5 and Appendix A; channels, growth and factors are
those of the authors' code.
Hours: they are not known, since this has not been run. It is meant for several GPUs or a TPU slice.
"""

import ml_collections

from configs.msdnet import base


def get_config(k: str = "4") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 1
    config.eval_every = 4809
    config.data.update(name="imagenet2012", source="tfds", stream=True, test_split="validation")
    config.data.update(validation_examples=50000, image_size=224, augment="resized_crop")
    config.data.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.train.update(steps=432810, batch_size=256)
    config.optimizer.drop_steps = (144270, 288540)
    config.msdnet.update(blocks=5, base=int(k) + 3, step=int(k), stem="imagenet", head=0)
    config.msdnet.update(channels=32, growth=16)
    config.msdnet.update(growth_factors=(1, 2, 4, 4), bottleneck_factors=(1, 2, 4, 4))
    return config
