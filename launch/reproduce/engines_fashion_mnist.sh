#!/usr/bin/env bash
# Compressed networks of Fashion-MNIST on engines: what docs/results.md shows of them.
#   launch/reproduce/engines_fashion_mnist.sh [FOLDER]
# FOLDER (runs/engines) gets a run for each network and way to compress it, and what deploy.main
# measured of each. The times need a machine that does nothing else. Then the same command shows
# the tables again.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-runs/engines}
python=${PYTHON:-python}
data=(--config.data.source=idx --config.data.dir="${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}")
for name in lenet_5 resnet_20 mobilenet_v2_small; do
  config=configs/compress/engines_fashion_mnist.py:$name
  "$python" -m compress.main --config=$config --workdir="$folder/$name-structured" "${data[@]}"
  "$python" -m compress.main --config=$config --workdir="$folder/$name-low-rank" "${data[@]}" \
    --config.stages='("factorize","quantize")' \
    --config.source.path="$folder/$name-structured" --config.source.unit=networks/original
done
"$python" -m msdnet.main --config=configs/msdnet/fashion_mnist.py --workdir="$folder/msdnet" \
  "${data[@]}" --config.replicates=1 --config.networks='("msdnet",)' --config.train.steps=858 \
  --config.optimizer.drop_steps='(429,643)'
if [ "${TRAIN_ONLY:-}" ]; then exit; fi
for run in "$folder"/*; do
  case $run in *-engines) continue ;; esac
  "$python" -m deploy.main --source="$run" --workdir="$run-engines"
done
