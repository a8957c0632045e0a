"""Lottery tickets: iterative magnitude pruning with rewinding, and its controls."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from lottery import criteria, masks, tickets
    from lottery.tickets import Ticket, load

__all__ = ["Ticket", "criteria", "load", "masks", "tickets"]

__getattr__, __dir__ = lazy.attributes(
    __name__,
    {"lottery": ("criteria", "masks", "tickets"), "lottery.tickets": ("Ticket", "load")},
)
