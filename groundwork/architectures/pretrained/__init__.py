"""Weights that others have trained, in the names and layouts of torchvision and timm, and back.

Read `load` first.
"""

from groundwork.architectures.pretrained.conversion import Layers, Named, from_torch
from groundwork.architectures.pretrained.files import SUFFIXES, is_file, near
from groundwork.architectures.pretrained.networks import load, read, save, to_torch

__all__ = [
    "SUFFIXES",
    "Layers",
    "Named",
    "from_torch",
    "is_file",
    "load",
    "near",
    "read",
    "save",
    "to_torch",
]
