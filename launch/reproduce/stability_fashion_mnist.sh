#!/usr/bin/env bash
# From which step on do two copies of a network end in one valley? Instability against the step, of
# the dense Lenet-300-100, of a ticket of density 0.09, and of a random mask (after Frankle et al.,
# arXiv:1912.05671, Figures 2 and 5, which have MNIST).
#
#   launch/reproduce/stability_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Three replicates; on two cores 17 minutes
# beside other work: 6 for the tickets, 11 for the copies.
#
# Expect: as the paper's, LeNet is stable (instability below 0.02) from initialisation, dense and as a
# ticket; figures/instability.png has the lines, figures/paths_test.png the error along each path.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

small=(--config.data.name=digits --config.data.source=digits --config.data.validation_examples=200
  --config.model.name=lenet_300_100 --config.model.width=0.1 --config.replicates=2
  --config.train.steps=20 --config.eval_every=20)
level=11
[[ -z $smoke ]] || level=1
toy=("${small[@]}" --config.prune.rate=0.5)
experiment tickets configs/lottery/lenet_fashion_mnist.py --config.levels=$level \
  --config.branches.small_dense="()" --config.branches.random_reinit="()" \
  --config.branches.random_mask="()"
command=lottery.stability
toy=("${small[@]}" "--config.stability.steps=(0,10)" --config.stability.points=5
  --config.stability.train_examples=500)
folders=()
experiment stability configs/lottery/stability_lenet_fashion_mnist.py \
  "--config.stability.source=$runs/tickets" "--config.stability.levels=($level,)"
report
