r"""Are tickets worth their trainings where there are convolutions? A narrow Conv-2.

    python -m lottery.main --config=configs/lottery/methods_conv2.py \
        --workdir=runs/methods_conv2/tickets --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

As `methods_fashion_mnist.py`, but with an eighth of Conv-2's channels and units (52,258
parameters), half an epoch (215 steps) per level, two replicates, and weights that are ranked in
all layers together: by layer, the first convolution would keep 1 of its 72 weights. It needs
`make cpu` on a CPU.
Source of the network: Frankle & Carbin, arXiv:1803.03635, Figure 2.
"""

import ml_collections

from configs.lottery import methods_fashion_mnist

STEPS = 215  # half an epoch


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = methods_fashion_mnist.get_config()
    config.replicates = 2
    config.model.update(name="conv_2", width=0.125)
    config.eval_every = STEPS
    config.train.steps = STEPS
    config.optimizer.drop_steps = (143,)
    config.prune.scope = "global"
    return config
