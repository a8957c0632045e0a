"""What is done to a network before its weights lose bits, without any training.

`fold` takes BatchNorm into kernels, `equalize` evens the ranges of neighbouring layers, and
`correct` moves biases by the mean error of rounded weights. Source: Nagel et al.,
arXiv:1906.04721.
"""

from compress.quantize.data_free.bias_correction import Corrected, correct
from compress.quantize.data_free.equalization import Equalized, equalize
from compress.quantize.data_free.folding import Folded, fold

__all__ = ["Corrected", "Equalized", "Folded", "correct", "equalize", "fold"]
