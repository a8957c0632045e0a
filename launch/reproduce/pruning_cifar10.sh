#!/usr/bin/env bash
# Units that are removed on CIFAR-10: ResNet-56-pruned-B of Li et al., arXiv:1608.08710, Table 1
# (filters of small L1 norm), and VGG-19 of Liu et al., arXiv:1708.06519, Table 1 (channels of small
# scales), each beside networks of the same shape that keep other units or are trained anew (Liu et
# al., arXiv:1810.05270).
#
#   launch/reproduce/pruning_cifar10.sh -- --config.data.dir=FOLDER
#
# CIFAR-10 comes through TFDS. Three replicates of 160 epochs are meant for a GPU, and two cores would
# take weeks; it has not been run in full here. It continues when it was interrupted.
#
# Expect: ResNet-56 loses 27.6 % of its multiply-adds and 13.8 % of its parameters (that is exact) and
# hardly any accuracy (published: an error of 6.96 % before, 6.94 % after); of VGG-19 about a tenth of
# the parameters is left, at about the same error (published: 6.34 % and 6.20 %).
# shellcheck source=launch/reproduce/common.sh
command=pruning
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.stream=false
  --config.data.augment=none --config.data.validation_examples=0 --config.model.name=lenet_300_100
  --config.model.width=0.1 --config.replicates=2 --config.train.steps=40 --config.fine_tune.steps=20
  --config.eval_every=20 --config.sparsity.penalty=none --config.sparsity.weight=0.0
  --config.prune.criterion=l1 --config.prune.ratio=0.5)
experiment resnet56_cifar10_l1 configs/pruning/resnet56_cifar10_l1.py
experiment vgg19_cifar10_slimming configs/pruning/vgg19_cifar10_slimming.py
report
