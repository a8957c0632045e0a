"""Lottery tickets of LeNet-300-100 on MNIST, as the paper has them.

    python -m lottery.main --config=configs/lottery/lenet_mnist.py --workdir=runs/mnist

266,610 parameters, Adam 1.2e-3, batch 60, 50,000 steps, 5,000 validation examples, evaluation
every 100 steps; 20 % of what remains a level, the output layer 10 %; rewound to step 0.
Source: Frankle & Carbin, arXiv:1803.03635, Figures 2 and 3 and Appendix G. Published (MNIST):
tickets reach a higher test accuracy than the dense network down to 3.6 % of its weights. MNIST
comes through TFDS, or as four IDX files: --config.data.source=idx --config.data.dir=FOLDER.
"""

from configs.lottery import base


def get_config():
    """See the module's docstring."""
    config = base.get_config()
    config.levels = 16
    config.data.update(name="mnist", source="tfds", validation_examples=5000)
    config.train.update(steps=50_000, batch_size=60)
    config.prune.rate = {"*": 0.2, "output": 0.1}
    config.branches.random_reinit = "all"
    return config
