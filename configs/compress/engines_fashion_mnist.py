r"""Which small networks do engines run fastest? Networks for `deploy.main`, of Fashion-MNIST.

    python -m compress.main --config=configs/compress/engines_fashion_mnist.py:resnet_20 \
        --workdir=runs/engines_resnet_20 --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

Then `python -m deploy.main --source=runs/engines_resnet_20` takes them to the engines. Behind the
colon stands a network of `groundwork.architectures`. It learns images padded to 32×32 for two
epochs of 429 batches of 128 (Adam 2e-3, cosine), loses half of each group of its units and learns
for an epoch more (1e-3); then its kernels get 8 bits, one scale for each output, without training.
With `--config.stages='("factorize","quantize")'` its layers get low ranks, half of the
multiply-adds, in the place of fewer units. `../../launch/reproduce/engines_fashion_mnist.sh` makes
all. `../lottery/lenet_fashion_mnist.py` says where the files come from; `make cpu` comes first.
"""

import ml_collections

from configs.compress import base

EPOCH = 429  # batches


def get_config(name: str = "resnet_20") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 1
    config.eval_every = EPOCH
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000, pad=2)
    config.model.name = name
    config.train.update(steps=2 * EPOCH, batch_size=128)
    config.optimizer.update(learning_rate=2e-3, schedule="cosine")
    config.fine_tune.update(steps=EPOCH, batch_size=128)
    config.fine_tune_optimizer.learning_rate = 1e-3
    config.stages = ("structured", "quantize")
    config.structured.ratio = (0.5,)
    config.factorize.update(measure="macs", shares=(0.5,))
    config.quantize.update(method="uniform", bits=(8,), per_channel=True, fine_tune=False)
    config.quantize.other_bits = 0
    return config
