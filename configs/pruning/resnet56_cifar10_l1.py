r"""Which filters of ResNet-56's blocks may go on CIFAR-10, by their L1 norms?

    python -m pruning.main --config=configs/pruning/resnet56_cifar10_l1.py \
        --workdir=runs/pruning_resnet56

The network is trained by SGD with momentum 0.9, weight decay 1e-4 and batch 128 for 160 epochs of
351 steps; the rate is 0.1, times 0.1 after half and three quarters. Of the first convolution of
each block, 60 %, 30 % and 10 % of the filters go in the three stages, but none in the sensitive
blocks; 20 epochs at the rate 1e-3 follow. What is kept is rounded down, as in the published
networks: 6 of 16 filters, 22 of 32 and 57 of 64. CIFAR-10 comes through TFDS
(`pip install -r requirements-tfds.txt`).
Source: Li et al., arXiv:1608.08710, Section 4.2 and Table 1 (ResNet-56-pruned-B). Published: an
error of 6.96 % becomes one of 6.94 % with 9.09e7 FLOPs (27.6 % fewer) and 7.3e5 parameters (13.7 %
fewer); here 90,907,264 multiply-adds (27.6 % fewer) and 735,712 parameters (13.8 % fewer).
Departs: the schedule of the first training is that of He et al., arXiv:1512.03385, in epochs;
5,000 examples validate.
Hours: they are not known, since this has not been run whole. It is meant for a GPU.
"""

import ml_collections

from configs.pruning import base

EPOCH = 351  # steps: 45,000 examples in batches of 128
SENSITIVE = ("1_8", "1_9", "2_1", "2_8", "3_1", "3_9")  # the paper's layers 16, 18, 20, 34, 38, 54


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = EPOCH
    config.data.update(name="cifar10", source="tfds", validation_examples=5000)
    config.data.update(stream=True, augment="crop_flip")
    config.model.name = "resnet_56"
    config.train.update(steps=160 * EPOCH, batch_size=128)
    config.optimizer.update(name="momentum", learning_rate=0.1, weight_decay=1e-4)
    config.optimizer.update(schedule="step", drop_steps=(80 * EPOCH, 120 * EPOCH))
    stages = {"block1_*/conv1": 10 / 16, "block2_*/conv1": 10 / 32, "block3_*/conv1": 7 / 64}
    kept = {f"block{block}/conv1": 0.0 for block in SENSITIVE}
    config.prune.update(criterion="l1", members="first")
    config.prune.ratio = {**stages, **kept}
    config.branches.update(scratch_e=True, random_units=True)
    config.fine_tune.update(steps=20 * EPOCH, batch_size=128)
    config.fine_tune_optimizer.update(name="momentum", learning_rate=1e-3, weight_decay=1e-4)
    config.fine_tune_optimizer.schedule = "constant"
    return config
