r"""Which way to a sparse network keeps most accuracy, where there are convolutions?

    python -m pruning.main --config=configs/pruning/methods_conv2.py \
        --workdir=runs/methods_conv2_one --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

As `methods_fashion_mnist.py`, but with an eighth of Conv-2's channels and units (52,258
parameters), half an epoch (215 steps), for fine-tuning too, and two replicates.
`launch/reproduce/methods_conv2.sh` runs all methods and tickets. It needs `make cpu` on a CPU.
"""

import ml_collections

from configs.pruning import methods_fashion_mnist

STEPS = 215  # half an epoch


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = methods_fashion_mnist.get_config()
    config.replicates = 2
    config.model.update(name="conv_2", width=0.125)
    config.eval_every = STEPS
    config.train.steps = STEPS
    config.optimizer.drop_steps = (143,)
    config.prune.update(every=10, scope="global")
    config.fine_tune.steps = STEPS
    return config
