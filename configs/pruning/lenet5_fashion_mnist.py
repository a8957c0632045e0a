r"""How few channels and neurons does LeNet-5 need on Fashion-MNIST, and how much time is saved?

    python -m pruning.main --config=configs/pruning/lenet5_fashion_mnist.py \
        --workdir=runs/pruning_lenet5 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

The network has 431,080 parameters. It is trained by Adam (1.2e-3, cosine) with batch 128 for four
epochs of 429 steps, in three replicates. Of the units of each layer 53 % go, which leaves a quarter
of the multiply-adds, by the first-order Taylor criterion on 1,000 training examples; the next
layers make up for them by least squares, and two epochs of fine-tuning (1e-3, cosine) follow. The
controls train the same shapes anew, one of them for twice as many steps as the original, and keep
other units. The files come from Debian (`apt-get install dataset-fashion-mnist`), or from TFDS with
the default `data.source=tfds`.
Source of the criterion: Molchanov et al., arXiv:1906.10771; of the controls: Liu et al.,
arXiv:1810.05270.
It took 38 minutes on two cores beside other work. Test accuracy falls from 0.903 to 0.893, or to
0.903 with `prune.iterations=3`; docs/results.md has the controls.
"""

import ml_collections

from configs.pruning import base

EPOCH = 429  # steps: 55,000 examples in batches of 128


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = EPOCH
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.model.name = "lenet_5"
    config.train.update(steps=4 * EPOCH, batch_size=128)
    config.optimizer.schedule = "cosine"
    config.prune.update(criterion="taylor", examples=1000, compensate="least_squares")
    config.prune.ratio = (0.53,)
    config.branches.update(scratch_e=True, scratch_b=True, random_units=True)
    config.branches.scratch_b_at_most = 2.0
    config.fine_tune.update(steps=2 * EPOCH, batch_size=128)
    config.fine_tune_optimizer.learning_rate = 1e-3
    return config
