"""Convolutions, and chains of layers in evaluation, that oneDNN computes on the CPU."""
