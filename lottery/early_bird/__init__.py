"""Early-bird tickets: masks that stop changing early in training. Read `detection` first."""

from typing import TYPE_CHECKING

from groundwork import lazy

if TYPE_CHECKING:
    from lottery.early_bird.detection import detect, distances
else:
    __getattr__, __dir__ = lazy.attributes(
        __name__, {"lottery.early_bird.detection": ("detect", "distances")}
    )

__all__ = ["detect", "distances"]
