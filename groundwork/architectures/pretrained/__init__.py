"""Weights that others have trained, in the names and layouts of torchvision and timm, and back."""

from groundwork.architectures.pretrained.conversion import Named, from_torch, to_torch

__all__ = ["Named", "from_torch", "to_torch"]
