#!/usr/bin/env bash
# The question of Yu et al., arXiv:1906.02768 (do language models have winning tickets?), asked of a
# small Transformer and an LSTM that learn the characters of Python's help texts: bits per character
# against density, tickets beside the same masks with new weights, and beside random masks.
#
#   launch/reproduce/text_pydoc.sh
#
# No files are needed; `-- --config.data.path=FILE` takes another text. Three replicates; on two cores
# the Transformer took 16 minutes of processor time, the LSTM 13 minutes beside other work.
#
# Expect: comparison/bits_per_character.png with both networks (lower is better). At a density of 0.33
# both tickets are below their dense network, and the same masks with new weights and random masks
# far above it, as the paper finds for larger networks and texts.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.levels=1 --config.replicates=2 --config.train.steps=40 --config.train.batch_size=8
  --config.eval_every=20 --config.optimizer.warmup_steps=5 --config.prune.rate=0.7
  --config.rewind.step=5 --config.branches.random_reinit=all --config.branches.random_mask=all
  "--config.model.kwargs={'layers': 1, 'features': 8}"
  "--config.data.kwargs={'length': 16, 'validation': 0.01, 'test': 0.01}")
experiment text_transformer configs/lottery/text_pydoc.py
experiment text_lstm configs/lottery/text_pydoc.py --config.model.name=lstm \
  "--config.model.kwargs={'layers': 2, 'features': 64}"
report
