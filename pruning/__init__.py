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
    from pruning.top_k import top_k_gradients
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
            ),
            "pruning.top_k": ("top_k_gradients",),
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
    "top_k_gradients",
]
