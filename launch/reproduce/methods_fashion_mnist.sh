#!/usr/bin/env bash
# What to prune, and when: tickets (arXiv:1803.03635), fine-tuning and learning rate rewinding
# (arXiv:2003.02389), gradual pruning (arXiv:1710.01878), RigL (arXiv:1911.11134), SET
# (arXiv:1707.04780), SNIP, GraSP and SynFlow before training (arXiv:2009.08576), Wanda and OBS in one
# shot, and the controls, side by side: LeNet-300-100 on Fashion-MNIST at four densities.
#
#   launch/reproduce/methods_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Three replicates; docs/results.md says how long it
# took on two cores, and has the table.
#
# Expect: methods/methods.png and a table with a row per method; tickets and learning rate rewinding
# at the top, what is chosen before training below what is chosen after it, random masks at the end.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

methods methods_fashion_mnist
