r"""How small does a detector's file get? SqueezeDet finds handwritten digits on canvases.

    python -m compress.main --config=configs/compress/squeezedet_digits.py \
        --workdir=runs/compress_squeezedet

The small form at half its width learns 2,000 canvases of 64×64 pixels with one to four of
scikit-learn's digits each, loses half of its weights twice, and is quantised by k-means. The tables
show mean average precision at an overlap of 0.5 beside the share of objects that are right, which
rules the run, and the page shows boxes on test canvases. On a CPU of two cores one run took 20
minutes of processor time and found: mean average precision 0.745 of the original (1.87 MB), 0.621
with half and 0.406 with a quarter of its weights, 0.447 when these had 4 bits and were trained on
(122 kB).
Source: Wu et al., arXiv:1612.01051, for the network and its loss; the data are this project's.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    detect(config)
    config.prune.update(levels=(2,), rate=0.5, rewind="none")
    config.quantize.bits = (4,)
    return config


def detect(config: ml_collections.ConfigDict) -> None:
    """Sets data, network, loss and training; `../pruning/squeezedet_digits.py` has the same."""
    config.replicates = 1
    config.data.update(name="digit_canvases", source="digit_canvases", image_size=64)
    config.data.kwargs = {"examples": 2400, "test_examples": 400, "objects": 4}
    config.data.validation_examples = 400
    config.model.update(name="squeezedet_small", width=0.5)
    config.loss = "squeezedet"
    # A fifth of the published weights of confidences: nothing here is trained before, and with the
    # published ones classes are learned late.
    config.loss_kwargs = {"positive": 15.0, "negative": 20.0}
    config.train.update(steps=4000, batch_size=16)
    config.optimizer.update(learning_rate=2e-3, schedule="cosine", warmup_steps=50)
    config.eval_every = 400
    config.fine_tune.update(steps=500, batch_size=16)
