#!/usr/bin/env bash
# Frankle & Carbin, arXiv:1803.03635, the Lenet part of Figures 1 and 4 (iterative pruning): when
# early stopping would come, and the accuracy there and at the end, against the share of weights
# that remain; winning tickets beside the same masks with new weights, and beside random masks.
#
#   launch/reproduce/lenet_mnist.sh -- --config.data.source=idx --config.data.dir=FOLDER
#
# FOLDER has MNIST's four IDX files; without these flags MNIST comes through TFDS. Five replicates,
# 50,000 steps, 16 rounds: 49 trainings of 5 networks. It has not been run in full here; at about
# 1 ms per step and replicate, that is three to four hours on two cores. It continues when it was
# interrupted.
#
# Expect: figures/accuracy.png: the ticket at or above the dense network down to a density of about
# 0.04, random_reinit and random_mask falling from the first rounds on; figures/early_stopping.png:
# the ticket stops earliest near density 0.2, random_reinit later and later.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.validation_examples=200
  --config.model.width=0.1 --config.levels=1 --config.replicates=2 --config.train.steps=40
  --config.eval_every=20 --config.branches.random_reinit=all --config.branches.random_mask=all)
experiment lenet_mnist configs/lottery/lenet_mnist.py \
  --config.replicates=5 --config.branches.random_mask=all
report
