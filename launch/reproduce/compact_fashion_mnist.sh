#!/usr/bin/env bash
# Networks that are small by design (SqueezeNet, arXiv:1602.07360; MobileNet, arXiv:1704.04861 and
# 1801.04381; ShuffleNet, arXiv:1707.01083; Xception, arXiv:1610.02357; SEP-Net, arXiv:1706.03912;
# EfficientNet, arXiv:1905.11946; and layers that transfer filters) beside LeNet-5 and a pruned
# VGG-11, on Fashion-MNIST, all trained alike.
#
#   launch/reproduce/compact_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Two replicates; docs/results.md says how long it
# took on two cores with `make cpu`, and has the figure.
#
# Expect: compact/comparison/accuracy.png, with accuracy against multiply-adds and parameters.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ -n $smoke ]]; then
  flags+=(--config.data.name=digits --config.data.source=digits --config.data.pad=4
    --config.data.validation_examples=0 --config.replicates=2 --config.train.steps=2
    --config.fine_tune.steps=2 --config.eval_every=2)
fi
run "${PYTHON:-python}" -m launch.sweep --module=pruning.main \
  --config=configs/pruning/compact_fashion_mnist.py "--workdir=$runs/compact" \
  --points=launch/reproduce/compact.txt -- ${flags[@]+"${flags[@]}"}
