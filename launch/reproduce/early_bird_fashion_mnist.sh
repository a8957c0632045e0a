#!/usr/bin/env bash
# The matrix of distances between the masks of all epochs (You et al., arXiv:1909.11957, Figure 3),
# and what the early ticket costs and is worth, asked of a narrow VGG-11 on Fashion-MNIST: once as it
# is, and once with a search in 8 bits.
#
#   launch/reproduce/early_bird_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Two replicates; on two cores 21 minutes for
# the first, beside other work. Convolutions on a CPU need `make cpu`.
#
# Expect: in each run's folder, figures/distances.png, dark near the diagonal and from the epoch on
# at which the ticket is drawn, and figures/accuracy.png with the computation of the training.
# shellcheck source=launch/reproduce/common.sh
command=lottery.early_bird
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.pad=0
  --config.data.validation_examples=0 --config.model.name=plain_small --config.model.width=0.5
  --config.train.steps=30 --config.optimizer.drop_steps='(15,)' --config.eval_every=15
  --config.early_bird.every=5 --config.early_bird.threshold=0.5 --config.fine_tune.steps=5)
experiment early_bird_vgg11 configs/lottery/early_bird_vgg11_fashion_mnist.py
experiment early_bird_vgg11_8_bits configs/lottery/early_bird_vgg11_fashion_mnist.py \
  --config.early_bird.bits=8
report
