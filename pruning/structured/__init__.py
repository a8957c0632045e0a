"""Whole units are taken away: the network gets physically smaller."""
