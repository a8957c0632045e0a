#!/usr/bin/env bash
# Compressed networks on the engines of phones and servers, as floats and as 8-bit integers (Jacob et
# al., arXiv:1712.05877): LeNet-5, ResNet-20 and MobileNet v2, whole, with half of their units, and
# with low ranks, and MSDNet with all its exits, on Fashion-MNIST.
#
#   launch/reproduce/engines_fashion_mnist.sh -- \
#       --config.data.source=idx --config.data.dir=/usr/share/datasets/fashion-mnist
#
# Without these flags the data comes through TFDS. docs/results.md says how long it took on two cores
# with `make cpu`, and has the tables. Times of engines need a machine that does nothing else.
#
# Expect: the page of each run NETWORK-engines, with a table of engines, kinds and threads, and a
# figure of accuracy against milliseconds.
# shellcheck source=launch/reproduce/common.sh
command=compress
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

digits=(--config.data.name=digits --config.data.source=digits --config.data.pad=4
  --config.data.validation_examples=100 --config.train.steps=2 --config.eval_every=2
  --config.train.batch_size=20)
toy=("${digits[@]}" --config.model.width=0.1 --config.fine_tune.steps=2)
config=configs/compress/engines_fashion_mnist.py
for name in lenet_5 resnet_20 mobilenet_v2_small; do
  experiment "$name-structured" "$config:$name"
  experiment "$name-low-rank" "$config:$name" "--config.stages=('factorize','quantize')" \
    "--config.source.path=$runs/$name-structured" --config.source.unit=networks/original
done
command=msdnet
toy=("${digits[@]}" --config.msdnet.blocks=2 --config.optimizer.drop_steps="(1,)")
experiment msdnet configs/msdnet/fashion_mnist.py --config.replicates=1 \
  "--config.networks=('msdnet',)" --config.train.steps=858 "--config.optimizer.drop_steps=(429,643)"
measure=()
[[ -z $smoke ]] || measure=(--config.measure.rounds=1 --config.measure.seconds=0
  --config.measure.warmup_seconds=0 --config.calibration.examples=20)
for folder in "${folders[@]}"; do
  run "${PYTHON:-python}" -m deploy.main "--source=$folder" "--workdir=$folder-engines" \
    ${measure[@]+"${measure[@]}"}
done
