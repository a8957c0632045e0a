"""The measure by which the networks of a run are judged."""

from collections.abc import Iterable
from typing import NamedTuple


class Metric(NamedTuple):
    """The name of a measure, and which of its values are good."""

    name: str  # as rows have it, such as `accuracy`
    higher_is_better: bool

    @property
    def words(self) -> str:
        """The name as figures and tables write it."""
        return self.name.replace("_", " ")

    @property
    def title(self) -> str:
        """The words at the beginning of a sentence."""
        return self.words[:1].upper() + self.words[1:]

    @property
    def plural(self) -> str:
        """The words for several of its values."""
        return "accuracies" if self.name == "accuracy" else f"values of the {self.words}"

    @property
    def is_share(self) -> bool:
        """Whether its values are shares of 1."""
        return self.name.endswith(("accuracy", "agreement"))

    @property
    def stopping(self) -> "Metric":
        """The measure whose best value on validation examples is the early-stopping point.

        It is this one, but the loss for shares of right answers, as in the papers: they are coarse,
        and many steps have the same.
        """
        return LOSS if self.is_share else self

    @property
    def best(self) -> str:
        """The word for the better end of its values."""
        return "greatest" if self.higher_is_better else "least"

    @property
    def sign(self) -> int:
        """Times this, more is better."""
        return 1 if self.higher_is_better else -1

    def perplexities(self, values: Iterable[float]) -> list[float]:
        """Returns 2 to the power of each value, if they are bits of a token; otherwise none."""
        return [2.0**value for value in values] if self.name == BITS.name else []


ACCURACY = Metric("accuracy", higher_is_better=True)
LOSS = Metric("loss", higher_is_better=False)
BITS = Metric("bits_per_character", higher_is_better=False)
