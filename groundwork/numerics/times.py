"""What is known of the times of two calls that took turns."""

from typing import NamedTuple

BUSY = 0.1  # of the processors' time: what others may take before times are doubted


class Times(NamedTuple):
    """Milliseconds of the original and of a network: medians, and quartiles.

    Attributes:
      original: the median.
      own: likewise, of the network.
      original_low: the lower quartile; None of older runs.
      original_high: the upper quartile.
      own_low: likewise, of the network.
      own_high: likewise.
      others: the share of the processors' time, in [0, 1], that other processes took meanwhile;
        None where that is not known.
    """

    original: float
    own: float
    original_low: float | None = None
    original_high: float | None = None
    own_low: float | None = None
    own_high: float | None = None
    others: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Was the machine busy with something else?"""
        return self.others is not None and self.others > BUSY
