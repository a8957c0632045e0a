"""The measure by which the networks of a run are judged."""

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
        return self.name.endswith("accuracy")

    @property
    def sign(self) -> int:
        """Times this, more is better."""
        return 1 if self.higher_is_better else -1


ACCURACY = Metric("accuracy", higher_is_better=True)
LOSS = Metric("loss", higher_is_better=False)
