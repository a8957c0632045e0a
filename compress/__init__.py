"""What is done to a trained network to store it in fewer bytes."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from compress import distill, quantize, share
    from compress.archive import describe, load, save
    from compress.coding import huffman, sparse
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "compress": ("distill", "quantize", "share"),
            "compress.archive": ("describe", "load", "save"),
            "compress.coding": ("huffman", "sparse"),
        },
    )

__all__ = ["describe", "distill", "huffman", "load", "quantize", "save", "share", "sparse"]
