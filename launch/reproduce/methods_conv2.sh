#!/usr/bin/env bash
# What to prune, and when, where there are convolutions: the comparison of methods_fashion_mnist.sh
# (arXiv:1803.03635, arXiv:2003.02389, arXiv:1911.11134 and others) for a narrow Conv-2.
#
#   launch/reproduce/methods_conv2.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. Two replicates; docs/results.md says how long it
# took on two cores with `make cpu`, and has the table.
#
# Expect: a table and a figure as those of methods_fashion_mnist.sh, with smaller differences.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

methods methods_conv2
