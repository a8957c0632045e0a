#!/usr/bin/env bash
# Greydanus & Kobak, arXiv:2011.14439, the lottery-ticket figure: test accuracy against sparsity,
# tickets beside random masks; and a short form with all controls.
#
#   launch/reproduce/mnist1d.sh
#
# No files are needed. Three replicates take 3 minutes on two cores in the short form and 2 h 16 min
# in the long one (both measured, the long one beside much other work).
#
# Expect: at sparsity 0.92 the ticket near 0.74 and the random mask near 0.61 (published: 0.744 to
# 0.756, and 0.606 to 0.618), the dense network near 0.66; the report prints ours beside theirs.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.model.width=0.1 --config.levels=1 --config.replicates=2 --config.train.steps=40
  --config.eval_every=20 --config.prune.score_step=20 --config.branches.small_dense=all)
experiment mnist1d configs/lottery/mnist1d.py
experiment mnist1d_full configs/lottery/mnist1d_full.py
report
