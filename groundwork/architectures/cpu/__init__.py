"""Convolutions that oneDNN computes on the CPU."""
