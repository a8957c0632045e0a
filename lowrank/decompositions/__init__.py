"""Decompositions of matrices and kernels, as functions of arrays."""
