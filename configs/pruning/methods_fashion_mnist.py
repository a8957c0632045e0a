r"""Which way to a sparse network keeps most accuracy? One of them, on Fashion-MNIST.

    python -m pruning.main --config=configs/pruning/methods_fashion_mnist.py \
        --workdir=runs/methods_one --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

LeNet-300-100 is trained by Adam (1.2e-3, a tenth of it in the last epoch) with batch 128 for
three epochs of 429 steps, and keeps a fifth, a tenth, a twentieth and a fiftieth of its weights, in
three replicates. What is pruned after its training is fine-tuned for as long, by a rate that a
cosine takes from 3e-4 to 0.
`launch/reproduce/methods_fashion_mnist.sh` runs all methods and tickets, and makes the table of
docs/results.md. The files come from Debian (`apt-get install dataset-fashion-mnist`), or from TFDS
with the default `data.source=tfds`.
"""

import ml_collections

from configs.pruning import weights

EPOCH = 429  # steps: 55,000 examples in batches of 128


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = weights.get_config()
    config.eval_every = EPOCH
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=3 * EPOCH, batch_size=128)
    config.optimizer.update(schedule="step", drop_steps=(2 * EPOCH,))
    config.prune.density = (0.2, 0.1, 0.05, 0.02)
    config.prune.update(every=50, examples=1000)
    config.fine_tune.update(steps=3 * EPOCH, batch_size=128)
    return config
