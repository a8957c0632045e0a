"""What is done to a trained network to store it in fewer bytes."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from compress import distill, hints, mutual, quantize, share
    from compress.archive import describe, load, save
    from compress.coding import huffman, sparse
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "compress": ("distill", "hints", "mutual", "quantize", "share"),
            "compress.archive": ("describe", "load", "save"),
            "compress.coding": ("huffman", "sparse"),
        },
    )

__all__ = [
    "describe",
    "distill",
    "hints",
    "huffman",
    "load",
    "mutual",
    "quantize",
    "save",
    "share",
    "sparse",
]
