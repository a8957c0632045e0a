"""Slimmable networks: one set of weights at several widths, of which one is chosen at run time.

Read `make` first, then `at`. Source: Yu et al., arXiv:1812.08928.
"""

from msdnet.slimmable.network import Slimmable, at, make
from msdnet.slimmable.widths import check, keeps

__all__ = ["Slimmable", "at", "check", "keeps", "make"]
