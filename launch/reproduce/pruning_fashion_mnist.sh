#!/usr/bin/env bash
# The question of Liu et al., arXiv:1810.05270 (is a pruned network worth more than its shape?), asked
# of Fashion-MNIST at sizes that train on a laptop: LeNet-5, a narrow VGG-11, a narrow ResNet-20.
#
#   launch/reproduce/pruning_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Two or three replicates; the time on two cores has
# not been measured. Convolutions on a CPU need `make cpu`.
#
# Expect: comparison/accuracy.png with accuracy against multiply-adds of all three; in each page,
# fine-tuned networks at or above random units, and scratch-E and scratch-B beside them.
# shellcheck source=launch/reproduce/common.sh
command=pruning
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.pad=0
  --config.data.validation_examples=0 --config.model.name=lenet_300_100 --config.model.width=0.1
  --config.replicates=2 --config.train.steps=40 --config.fine_tune.steps=20 --config.eval_every=20)
experiment lenet5 configs/pruning/lenet5_fashion_mnist.py
experiment vgg11 configs/pruning/vgg11_fashion_mnist.py
experiment resnet20 configs/pruning/resnet20_fashion_mnist.py
report
