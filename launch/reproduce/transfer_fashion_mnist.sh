#!/usr/bin/env bash
# Morcos et al., arXiv:1906.02773, the figures of transfer: tickets found on one data set, or by one
# optimiser, and trained on another, beside the target's own tickets, random masks and new weights.
# LeNet-300-100; Fashion-MNIST by Adam and by momentum, its two halves of five classes, and digits,
# padded to 28×28. (MNIST-1D has inputs of another shape, which no ticket of images fits.)
#
#   launch/reproduce/transfer_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS; --config.data flags do not change the digits.
# Three replicates; 30 minutes on two cores, beside other work.
#
# Expect: comparison/transfer.png, a panel for each target with bars for each source. Tickets of
# another optimiser are as good as the own ones; those of other data are no better than random masks
# (docs/results.md), unlike the paper's, which are of convolutional networks and natural images.
# shellcheck source=launch/reproduce/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config=configs/lottery/transfer_fashion_mnist.py
toy=(--config.data.name=digits --config.data.source=digits --config.data.pad=10
  --config.data.validation_examples=100 --config.model.width=0.1 --config.replicates=2 --config.levels=1 --config.ticket.levels=all
  --config.train.steps=6 --config.train.batch_size=50 --config.eval_every=3
  --config.branches.random_mask=all --config.branches.random_reinit=all)
momentum=(--config.optimizer.name=momentum --config.optimizer.learning_rate=0.05)
first=("--config.data.classes=(0,1,2,3,4)") second=("--config.data.classes=(5,6,7,8,9)")
digits=(--config.data.name=digits --config.data.source=digits --config.data.pad=10
  --config.data.validation_examples=200)

experiment_with() { # SOURCE NAME CONFIG OVERRIDES…: as `experiment`, with the tickets of a run
  local source=$1
  shift
  experiment "$@" "--config.ticket.source=$runs/$source" \
    "--config.branches.random_mask=()" "--config.branches.random_reinit=()"
}

on_digits() { # an `experiment`, without the flags that say where Fashion-MNIST is
  local -a all=(${flags[@]+"${flags[@]}"})
  local flag
  flags=()
  for flag in ${all[@]+"${all[@]}"}; do
    [[ $flag == --config.data.* ]] || flags+=("$flag")
  done
  "$@" "${digits[@]}"
  flags=(${all[@]+"${all[@]}"})
}

experiment fashion "$config"
experiment fashion_momentum "$config" "${momentum[@]}"
experiment first_half "$config" "${first[@]}"
experiment second_half "$config" "${second[@]}"
on_digits experiment digits "$config"
anew=--config.ticket.head=replace # since classes mean something else
experiment_with fashion_momentum momentum_to_adam "$config"
experiment_with fashion adam_to_momentum "$config" "${momentum[@]}"
experiment_with second_half second_to_first "$config" "${first[@]}" "$anew"
experiment_with first_half first_to_second "$config" "${second[@]}" "$anew"
experiment_with digits digits_to_fashion "$config" "$anew"
on_digits experiment_with fashion fashion_to_digits "$config" "$anew"
report
