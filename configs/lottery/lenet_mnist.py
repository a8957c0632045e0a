"""Does LeNet-300-100 have lottery tickets on MNIST? The paper's setting.

    python -m lottery.main --config=configs/lottery/lenet_mnist.py --workdir=runs/mnist

The network has 266,610 parameters. It is trained by Adam (1.2e-3) for 50,000 steps with batch 60;
5,000 examples validate, and evaluation comes every 100 steps. A level prunes 20 % of what remains
(10 % of the output layer) and rewinds to step 0. MNIST comes through TFDS, or as four IDX files:
--config.data.source=idx --config.data.dir=FOLDER.
Source: Frankle & Carbin, arXiv:1803.03635, Figures 2 and 3 and Appendix G. Published (MNIST):
tickets reach a higher test accuracy than the dense network down to 3.6 % of its weights.
"""

import ml_collections

from configs.lottery import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 16
    config.data.update(name="mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=50_000, batch_size=60)
    config.prune.rate = {"*": 0.2, "output": 0.1}
    config.branches.random_reinit = "all"
    return config
