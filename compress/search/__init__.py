"""Finds how a network must be compressed to meet a budget."""
