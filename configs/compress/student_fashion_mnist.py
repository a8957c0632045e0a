r"""Does StudentNet learn more from an ensemble than from the labels alone?

    python -m compress.main --config=configs/compress/student_fashion_mnist.py \
        --workdir=runs/compress_student --config.data.source=idx \
        --config.data.dir=/usr/share/datasets/fashion-mnist

StudentNet with 1 channel and 10 classes is trained on the labels for 6 epochs of 429 batches of 128
(Adam 1.2e-3, cosine). Then it is trained again, from the same initial values and in the same order,
by three teachers: the replicates of a LeNet-5 that `lenet5_fashion_mnist.py` has pruned to a
quarter of its weights (temperature 2, weight 0.9). There are three replicates, and 5,000 training
images are held out. `../lottery/lenet_fashion_mnist.py` says where the files come from; `make cpu`
comes first. `--config.distill.teachers='("FOLDER:networks/prune-04",)'` names teachers that lie
elsewhere.
Source: Hinton, Vinyals & Dean, arXiv:1503.02531.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.eval_every = 429
    config.data.update(name="fashion_mnist", source="tfds", validation_examples=5000)
    config.model.name = "student_net"
    config.train.update(steps=6 * 429, batch_size=128)
    config.optimizer.schedule = "cosine"
    config.stages = ("distill",)
    config.distill.temperature = 2.0
    config.distill.teachers = ("runs/compress_lenet5:networks/prune-04",)
    return config
