"""Compact architectures, one file per family."""
