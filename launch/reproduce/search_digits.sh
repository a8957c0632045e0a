#!/usr/bin/env bash
# Does a search that knows its layers find better networks than one that does not, at equal cost?
# LeNet-300-100 on scikit-learn's digits, for five seeds: `compress.search` beside random choices
# (control=random) and beside Optuna's NSGA-II alone (control=sampler). What the search spends on
# knowing the layers, the others have in further candidates. That random search is the one to beat is
# said by Li & Talwalkar, arXiv:1902.07638.
#
#   launch/reproduce/search_digits.sh
#
# No files are needed. On two cores each run takes 3 to 5 minutes beside another one.
#
# Expect: comparison/index.html with the hypervolume of each front (accuracy on validation against the
# logarithm of bytes, from the original's bytes and its accuracy − 0.04), and the seconds of each.
# shellcheck source=launch/reproduce/common.sh
command=compress.search
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

toy=(--config.train.steps=20 --config.eval_every=20 --config.model.width=0.05 --config.evaluations=2
  --config.search.steps=5 --config.fine_tune.steps=5 --config.search.examples=50
  "--config.space.densities=(0.5,0.2)" "--config.space.bits=(4,)")
space=("--config.space.densities=(0.5,0.35,0.25,0.18,0.12,0.08,0.06,0.04,0.03,0.02)"
  "--config.space.bits=(6,5,4,3,2)" "--config.search.around=(6.0,3.0,1.7,1.0,0.7)")
for seed in 0 1 2 3 4; do
  experiment "search_$seed" configs/search/digits.py "--config.seed=$seed" \
    --config.evaluations=14 "${space[@]}"
  for control in sampler random; do
    # a control may find no network within the budget, which is an error of its run
    experiment "${control}_$seed" configs/search/digits.py "--config.seed=$seed" \
      --config.evaluations=20 "--config.search.control=$control" "${space[@]}" || true
  done
done
report
