"""Removes whole units, which makes a network physically smaller."""
