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
# Expect: comparison/methods.png and a table with a row per method; tickets and learning rate
# rewinding at the top, what is chosen before training below what is chosen after it, and random masks
# at the end.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.data.name=digits --config.data.source=digits --config.data.validation_examples=0
  --config.model.width=0.1 --config.replicates=2 --config.train.steps=5 --config.eval_every=5)
experiment tickets configs/lottery/methods_fashion_mnist.py
[[ -z $smoke ]] || flags+=("${toy[@]}" --config.fine_tune.steps=5)
run "${PYTHON:-python}" -m launch.sweep --module=pruning.main \
  --config=configs/pruning/methods_fashion_mnist.py --workdir="$runs/sweep" \
  --points=launch/reproduce/methods.txt -- ${flags[@]+"${flags[@]}"}
run "${PYTHON:-python}" -m launch.methods --to="$runs/methods" "$runs/tickets" "$runs"/sweep/prune.*
