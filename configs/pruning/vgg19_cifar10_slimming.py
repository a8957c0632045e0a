r"""Are 70 % of the channels of VGG-19 superfluous on CIFAR-10, if its scales were trained sparse?

    python -m pruning.main --config=configs/pruning/vgg19_cifar10_slimming.py \
        --workdir=runs/pruning_vgg19

The network is trained by SGD with momentum 0.9, weight decay 1e-4 and batch 64 for 160 epochs of
703 steps; the rate is 0.1, times 0.1 after half and three quarters. The loss has 1e-4 times the sum
of the absolute scales of BatchNorm. Then 70 % of the channels go, those of the smallest scales in
all layers together, and the same training follows once more. CIFAR-10 comes through TFDS
(`pip install -r requirements-tfds.txt`).
Source: Liu et al., arXiv:1708.06519, Sections 3 and 4. Published: an error of 6.34 % with 20.04
million parameters becomes one of 6.20 % with 2.30 million (88.5 % fewer) and 51.0 % fewer FLOPs.
Departs: scales begin at 1 (theirs at 0.5), are compared over the mean of their layer, and momentum
is not Nesterov's; 5,000 examples validate.
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.pruning import base

EPOCH = 703  # steps: 45,000 examples in batches of 64


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = EPOCH
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.data.update(stream=True, augment="crop_flip")
    config.model.name = "vgg_19"
    config.train.update(steps=160 * EPOCH, batch_size=64)
    config.sparsity.update(penalty="slimming", weight=1e-4)
    config.prune.update(criterion="scale", scope="global", ratio=0.7)
    config.branches.random_units = True
    config.fine_tune.update(steps=160 * EPOCH, batch_size=64)
    for optimizer in (config.optimizer, config.fine_tune_optimizer):
        optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
        optimizer.update(schedule="step", drop_steps=(80 * EPOCH, 120 * EPOCH))
    return config
