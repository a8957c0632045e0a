"""One file for a compressed network: `save`, `load`, and `describe` (where the bytes go)."""

from compress.archive.contents import describe
from compress.archive.files import load, save

__all__ = ["describe", "load", "save"]
