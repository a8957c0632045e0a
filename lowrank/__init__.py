"""Low-rank decompositions of matrices, tensors and convolution kernels; and the choice of ranks."""
