"""The results of a search, read back from its folder for tables and figures."""

# R replicates

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress import results as networks
from compress.results import NEAR, Network
from compress.search import history, lineage
from compress.search.history import Candidate
from compress.search.settings import Setting
from compress.search.spec import COSTS, KNOWLEDGE
from groundwork import atomic
from groundwork.errors import UserError
from groundwork.runs.results import RunResults, open_results, readable

FRONT, CHOICE = "front.csv", "choice.json"  # in the folder of a run


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run of a search.

    Attributes:
      original: the network that all candidates are made of.
      candidates: that are finished, those that failed among them.
      chosen: the chosen network, after the last evaluation; None if the search has not ended.
      candidate: the number of the candidate that it was.
      longer: whether it was trained for longer after that.
      before: seconds that it took to know the layers.
    """

    original: Network
    candidates: list[Candidate]
    chosen: Network | None
    candidate: int
    longer: bool
    before: float

    @property
    def asked(self) -> dict[str, float]:
        """Name of a cost → its budget."""
        budget = self.config["budget"]
        return {name: budget[name] for name in COSTS if budget[name]}

    @property
    def objectives(self) -> list[str]:
        """The names of the costs that were held against the accuracy."""
        return list(self.asked) or [self.config["accuracy"]["cost"]]

    @property
    def seconds(self) -> float:
        """What knowing the layers and all candidates took together."""
        return self.before + sum(one.seconds for one in self.candidates)

    @property
    def measured(self) -> list[str]:
        """The names of the costs that every candidate knows."""
        done = history.evaluated(self.candidates)
        return [name for name in COSTS if done and all(name in one.last.costs for one in done)]

    def front(self) -> list[Candidate]:
        """Returns the candidates that no other beats in accuracy and in the objectives."""
        return history.front(self.candidates, self.objectives, self.metric.sign)

    def volume(self, name: str, count: int | None = None) -> float:
        """Returns the hypervolume of the first candidates, in one cost: see `hypervolume`.

        Errors are measured from that of the original + `NEAR` (for metrics that are no shares, a
        tenth of the original's), and costs from the original's, as logarithms to base 10.

        Args:
          name: of the cost.
          count: of candidates, in their order; by default all.
        """
        done = history.evaluated(self.candidates[:count])
        start = self.reference(name)
        points = [(one.cost(name), self.metric.sign * one.accuracy) for one in done]
        floor = self.metric.sign * float(np.mean(self.original.validation)) - self._near
        return hypervolume([(math.log10(start / max(c, 1e-9)), a - floor) for c, a in points])

    def reference(self, name: str) -> float:
        """Returns a cost of the original as float32; the largest seen where it has none."""
        known: dict[str, float | None] = {
            "bytes": self.original.float_bytes,
            "multiply_adds": self.original.multiply_adds,
            "parameters": float(np.mean(self.original.parameters)),
        }
        largest = max((one.cost(name) for one in history.evaluated(self.candidates)), default=1.0)
        return float(known.get(name) or largest)

    @property
    def _near(self) -> float:
        if self.metric.is_share:
            return NEAR
        return 0.1 * abs(float(np.mean(self.original.validation)))


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished original, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "compress.search")
    if not run.unit("networks/original").done:
        raise UserError(f"{run.folder} has no finished original network yet")
    with readable(run.folder):
        units = run.units()
        found = [
            history.from_json(run.unit(name).result()[1])
            for name in units
            if name.startswith("candidates/")
        ]
        ends = [name for name in units if name.startswith("chosen/")]
        chosen = networks.network(run, ends[-1]) if ends else None
        about = run.unit(ends[-1]).result()[1] if ends else {}
        before = run.unit(KNOWLEDGE).result()[1]["seconds"] if KNOWLEDGE in units else 0.0
        return Results(
            **fields,
            candidate=about.get("candidate", history.ORIGINAL),
            longer=about.get("longer", False),
            before=before,
            original=networks.network(run, "networks/original"),
            candidates=sorted(found, key=lambda one: one.number),
            chosen=chosen,
        )


def write(run: Results) -> None:
    """Writes `front.csv` and, once a network is chosen, `choice.json`.

    The columns of the front are the candidate's `network`, its accuracy (or other metric) on
    validation, and every cost, all means over replicates.
    """
    names, text = run.measured, io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["network", run.metric.name, *names])
    for one in run.front():
        costs = (f"{one.cost(name):.10g}" for name in names)
        rows.writerow([one.name, f"{one.accuracy:.6f}", *costs])
    atomic.write(run.folder / FRONT, text.getvalue())
    if run.chosen is not None:
        steps = history.lineage(run.candidates, run.candidate)
        lineage.write(run.folder / CHOICE, steps, run.longer)


def hypervolume(points: Sequence[tuple[float, float]]) -> float:
    """Returns the area between the origin and points (x, y), of both of which more is better.

    Points with a coordinate below 0 count nothing.

    Source: Zitzler & Thiele, IEEE Trans. Evol. Comp. 3 (1999).
    """
    area, best = 0.0, 0.0
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if x > 0 and y > best:
            area, best = area + x * (y - best), y
    return area


def settings_of(run: Results) -> dict[str, Setting]:
    """Returns layer → its setting, of all layers of the chosen network; empty if there is none."""
    if run.chosen is None:
        return {}
    choice, found = run.candidates[run.candidate].choice, {}
    for path in run.chosen.masked:
        inside = [layer for layer in choice if f"{path}/".startswith(f"{layer}/")]
        layer = max(inside, key=len) if inside else path.rpartition("/")[0] or path
        found[layer] = choice.get(layer, Setting())
    return found
