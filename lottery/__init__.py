"""Lottery tickets: the command, and functions for loops of your own."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from lottery import analysis, criteria, early_bird, masks, tickets
    from lottery.own_loop.loop import Level, iterate
    from lottery.tickets import Ticket, load
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "lottery": ("analysis", "criteria", "early_bird", "masks", "tickets"),
            "lottery.own_loop.loop": ("Level", "iterate"),
            "lottery.tickets": ("Ticket", "load"),
        },
    )

__all__ = [
    "Level",
    "Ticket",
    "analysis",
    "criteria",
    "early_bird",
    "iterate",
    "load",
    "masks",
    "tickets",
]
