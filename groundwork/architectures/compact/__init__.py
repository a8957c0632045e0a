"""Compact architectures, a file for each family."""
