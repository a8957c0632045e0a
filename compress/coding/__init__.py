"""Lossless coding: Huffman codes of integers, and the places of the entries of sparse arrays."""
