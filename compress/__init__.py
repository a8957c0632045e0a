"""What is done to a trained network to store it in fewer bytes."""

from compress import quantize
from compress.archive import describe, load, save
from compress.coding import huffman, sparse

__all__ = ["describe", "huffman", "load", "quantize", "save", "sparse"]
