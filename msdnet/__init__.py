"""Multi-scale dense networks: several exits, and as much computation as each image deserves."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from msdnet import exits, heads, slimmable, tokens
    from msdnet.cost import Cost, costs, parameters
    from msdnet.early_exit import Predictions, predict
    from msdnet.model import MSDNet
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__,
        {
            "msdnet": ("exits", "heads", "slimmable", "tokens"),
            "msdnet.cost": ("Cost", "costs", "parameters"),
            "msdnet.early_exit": ("Predictions", "predict"),
            "msdnet.model": ("MSDNet",),
        },
    )

__all__ = [
    "Cost",
    "MSDNet",
    "Predictions",
    "costs",
    "exits",
    "heads",
    "parameters",
    "predict",
    "slimmable",
    "tokens",
]
