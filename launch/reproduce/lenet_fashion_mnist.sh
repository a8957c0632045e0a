#!/usr/bin/env bash
# The question of lenet_mnist.sh, asked of Fashion-MNIST at a size that trains on a laptop:
# Lenet-300-100 and LeNet-5 (after Frankle & Carbin, arXiv:1803.03635, Figures 1 and 4, which have
# MNIST and Lenet-300-100). docs/results.md has its first run.
#
#   launch/reproduce/lenet_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Three replicates; on two cores 8 minutes for
# Lenet-300-100 (measured); LeNet-5's convolutions take longer (not measured).
#
# Expect: Lenet-300-100's ticket above its dense network (0.879) at every density down to 0.03, and
# above random_reinit by about 0.02; comparison/accuracy.png has both architectures.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.validation_examples=200
  --config.model.name=lenet_300_100 --config.model.width=0.1 --config.levels=1
  --config.replicates=2 --config.train.steps=40 --config.eval_every=20 --config.prune.rate=0.5
  --config.branches.random_reinit=all --config.branches.random_mask=all)
experiment lenet_fashion_mnist configs/lottery/lenet_fashion_mnist.py
experiment lenet5_fashion_mnist configs/lottery/lenet5_fashion_mnist.py
report
