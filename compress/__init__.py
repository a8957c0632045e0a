"""What is done to a trained network to store it in fewer bytes."""

from compress import huffman, quantize
from compress.archive import load, save
from compress.format.contents import describe

__all__ = ["describe", "huffman", "load", "quantize", "save"]
