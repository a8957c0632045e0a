"""The config's `ticket` section: which tickets of another run are trained."""

import dataclasses
from typing import Annotated, Literal

from groundwork.errors import UserError, shown, unknown
from lottery.branches import BRANCHES

Chosen = Annotated[Literal["all"] | int | tuple[int, ...], "'all' or levels from 1, such as (4, 8)"]


@dataclasses.dataclass(frozen=True)
class TicketSpec:
    """`ticket`: tickets of another run, which are trained by this config; see `lottery.transfer`.

    Attributes:
      source: the folder of the run, or its address in a bucket; "" = the run finds its own.
      branch: of the source, whose masks and weights are taken; those of level 0 are the ticket's.
      levels: which are trained beside level 0: `all` up to the config's `levels`, or some of them.
      head: `auto` draws arrays anew whose shapes another number of classes changes; `replace` draws
        all arrays anew whose shapes depend on it.
    """

    source: str = ""
    branch: str = "ticket"
    levels: Chosen = "all"
    head: Literal["auto", "replace"] = "auto"

    def __post_init__(self) -> None:
        if self.branch not in ("ticket", *BRANCHES):
            raise unknown("ticket.branch", self.branch, ("ticket", *BRANCHES))
        if self.levels != "all" and min(self._levels, default=1) < 1:
            raise UserError(
                f"ticket.levels={shown(self.levels)} must be 'all' or levels from 1, such as (4, 8)"
            )

    def trained(self, last: int) -> tuple[int, ...]:
        """Returns the levels that a run trains, 0 among them, up to its last one."""
        every = range(last + 1)
        if not self.source or self.levels == "all":
            return tuple(every)
        return tuple(level for level in every if level == 0 or level in self._levels)

    def beyond(self, last: int) -> list[int]:
        """Returns the levels that are asked for and lie beyond the last one."""
        return [] if self.levels == "all" else [level for level in self._levels if level > last]

    @property
    def _levels(self) -> tuple[int, ...]:
        return self.levels if isinstance(self.levels, tuple) else (int(self.levels),)
