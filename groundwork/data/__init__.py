"""Data sets: read, split, described, in memory or from files."""
