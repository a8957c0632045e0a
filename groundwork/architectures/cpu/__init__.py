"""Convolutions on the CPU by oneDNN."""
