"""What is removed from a network, and how: masks, criteria, schedules, whole units."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from pruning import (
        criteria,
        densities,
        dynamic,
        enforce,
        masks,
        patterns,
        schedule,
        select,
        structured,
    )
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "pruning": (
                "criteria",
                "densities",
                "dynamic",
                "enforce",
                "masks",
                "patterns",
                "schedule",
                "select",
                "structured",
            )
        },
    )

__all__ = [
    "criteria",
    "densities",
    "dynamic",
    "enforce",
    "masks",
    "patterns",
    "schedule",
    "select",
    "structured",
]
