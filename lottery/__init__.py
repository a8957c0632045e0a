"""Lottery tickets: the command, and functions for loops of your own."""

from lottery.own_loop.loop import Level, iterate

__all__ = ["Level", "iterate"]
