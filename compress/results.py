"""The results of a run, read back from its folder for tables and figures."""

# R replicates

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import trees
from groundwork.errors import UserError
from groundwork.runs.results import RunResults, open_results, readable
from groundwork.runs.run import Run, result_of
from groundwork.train.judging import JUDGED, SHOWN
from groundwork.trees import Variables
from pruning.masks import Mask

ORIGINAL = "original"
LOSSES = {"at no loss": 0.0, "within one point": 0.01}  # of mean accuracy, to choose by
NEAR = 0.04  # below the original's accuracy: near it
_UNITS = "networks/"


@dataclasses.dataclass(frozen=True)
class Stream:
    """A part of a network's files; lists have one entry per replicate."""

    path: str  # of the array; empty for the header, and for numbers of several arrays
    kind: str  # "weights", "index", "codebook", "other" or "header"
    bytes: list[int]
    symbols: list[int]
    bits: list[float]  # of a symbol, at one width for all of them
    coded_bits: list[float]  # of a symbol in the file
    entropy_bits: list[float]


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of the tree; lists have one entry per replicate."""

    name: str
    parent: str  # empty for the original
    stage: str
    setting: float
    leaf: bool  # whether the pipeline ends here
    bits: dict[str, int]  # path → bits of a quantised weight
    activations: dict[str, int]
    validation: list[float]  # accuracy, or the run's other metric; empty without such a split
    test: list[float]
    bytes: list[int]  # of the file
    float_bytes: int  # of the original's parameters as float32
    load_seconds: float
    milliseconds: dict[str, list[float]]  # batch size → the original's and its own, in one run
    sizes: dict[str, int]  # path → entries of a parameter
    kept: dict[str, list[int]]  # path → the entries that are not pruned
    streams: list[Stream]
    masked: list[str]  # paths of the leaves that have a mask
    # What the loss's judge says, name → split → numbers; and what it answers to a few test examples
    judged: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    shown: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    measures: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # others, of test
    multiply_adds: int | None = None  # of one example; older runs do not know

    @property
    def step(self) -> str:
        """The step that made it of its parent, such as `quantize-4`."""
        return self.name.rpartition("+")[2]

    @property
    def mean_bytes(self) -> float:
        """The mean size of its files."""
        return float(np.mean(self.bytes))

    @property
    def times_smaller(self) -> float:
        """How many times smaller it is than the original's parameters as float32."""
        return self.float_bytes / self.mean_bytes

    @property
    def parameters(self) -> list[int]:
        """The numbers of parameters that are not pruned, prunable or not: see `made.parameters`."""
        return np.sum(list(self.kept.values()), axis=0).tolist()

    def density(self, *paths: str) -> float | None:
        """Returns kept / prunable of the masked leaves (among `paths`); None if there are none."""
        masked = [path for path in self.masked if not paths or path in paths]
        if not masked:
            return None
        kept = np.mean(np.sum([self.kept[path] for path in masked], axis=0))
        return float(kept / sum(self.sizes[path] for path in masked))


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run and its finished networks: the original, then those of one stage, of two, …"""

    networks: list[Network]

    @property
    def original(self) -> Network:
        """The network that all others are made of."""
        return self.networks[0]

    @property
    def leaves(self) -> list[Network]:
        """The networks at the end of the pipeline."""
        return [network for network in self.networks if network.leaf]

    @property
    def judged_by(self) -> str:
        """The split by which networks are chosen."""
        return "validation" if self.original.validation else "test"

    @property
    def losses(self) -> dict[str, float]:
        """The losses of accuracy to choose by, in words; for other metrics, of the original's."""
        if self.metric.is_share:
            return LOSSES
        return {"at no loss": 0.0, "within one per cent": 0.01 * abs(self._judged(self.original))}

    @property
    def near(self) -> float:
        """How far from the original's a value of the metric is near it."""
        return (
            NEAR if self.metric.is_share else 2.5 * NEAR * abs(float(np.mean(self.original.test)))
        )

    def smallest(self, loss: float) -> Network | None:
        """Returns the smallest network whose mean accuracy is at most `loss` below the original's.

        Accuracies are those on validation, if there is such a split. Of equal sizes the more
        accurate network is returned; None if the original alone is accurate enough.
        """
        enough = self._judged(self.original) - loss - 1e-9  # sums of floats are not exact
        accurate = [network for network in self.networks[1:] if self._judged(network) >= enough]
        return min(accurate, key=lambda n: (n.mean_bytes, -self._judged(n)), default=None)

    def chosen(self) -> list[Network]:
        """Returns the smallest network for each of `LOSSES`, each network once."""
        smallest = [self.smallest(loss) for loss in self.losses.values()]
        return list({network.name: network for network in smallest if network}.values())

    def chain(self, network: Network) -> list[Network]:
        """Returns the finished networks from the original to `network`, one after each stage."""
        by_name = {member.name: member for member in self.networks}
        chain = [network]
        while parent := by_name.get(chain[0].parent):
            chain.insert(0, parent)
        return [n for n in chain if n.name == ORIGINAL or _starts(n.name, network.name)]

    def front(self) -> list[Network]:
        """Returns the networks that no other beats in both mean bytes and mean test accuracy."""
        places = pareto(
            [network.mean_bytes for network in self.networks],
            [self.metric.sign * float(np.mean(network.test)) for network in self.networks],
        )
        return [self.networks[place] for place in places]

    def _judged(self, network: Network) -> float:
        """Returns the mean by which it is chosen: the higher, the better."""
        return self.metric.sign * float(np.mean(getattr(network, self.judged_by)))


def read(workdir: str | Path) -> Results:
    """Returns the finished part of a run.

    Raises:
      UserError: there is no run or no finished original, or a checkpoint is damaged.
    """
    run, fields = open_results(workdir, "compress")
    if not run.unit(_UNITS + ORIGINAL).done:
        raise UserError(f"{run.folder} has no finished original network yet")
    units = (unit for unit in run.units() if unit.startswith(_UNITS))
    names = sorted((unit.removeprefix(_UNITS) for unit in units), key=_order)
    with readable(run.folder):
        networks = [network(run, _UNITS + name) for name in names]
    return Results(**fields, networks=networks)


def load(workdir: str | Path, name: str) -> Variables:
    """Returns the variables, leaves [R, …], of a network such as `prune-12+quantize-4`.

    Raises:
      UserError: the run has no such network (the error lists its units), or its checkpoint is
        damaged.
    """
    return load_all(workdir, name)[0]


def load_all(workdir: str | Path, name: str) -> tuple[Variables, Mask]:
    """Returns the variables, and the mask: path → [R, …] of the leaves that have one."""
    tree = result_of(workdir, _UNITS + name)
    return tree["variables"], tree.get("mask", {})


def parameter(variables: Variables, path: str) -> np.ndarray:
    """Returns the parameter at a path such as `fc1/kernel`, [R, …]."""
    return np.asarray(trees.flatten(variables["params"])[path])


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Returns the places of the points that no other point beats, the cheapest first.

    A point beats those that cost no less and are worth no more; of equal ones, the first does.
    """
    places: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i], i)):
        if not places or values[place] > values[places[-1]]:
            places.append(place)
    return places


def network(run: Run, unit: str) -> Network:
    """Returns the network of a finished unit, as `work.finish` saved it."""
    tree, metadata = run.unit(unit).result()
    empty: dict[str, Any] = {"validation": [], "measures": {}, "multiply_adds": None, JUDGED: {}}
    values = {**empty, SHOWN: tree.get(SHOWN, {})} | metadata
    values["streams"] = [Stream(**stream) for stream in metadata["streams"]]
    values["masked"] = sorted(tree.get("mask", {}))
    return Network(**{field.name: values[field.name] for field in dataclasses.fields(Network)})


def _order(name: str) -> tuple[Any, ...]:
    """Returns a sorting key: the original, then by number, names and settings of stages."""
    steps = name.split("+")
    return name != ORIGINAL, len(steps), [_numbered(step) for step in steps]


def _numbered(step: str) -> tuple[str, float]:
    match = re.fullmatch(r"(.*?)-?(\d+(?:\.\d*)?(?:e-?\d+)?)?", step)
    assert match  # anything is a name without a number
    return match[1], float(match[2] or 0)


def _starts(name: str, whole: str) -> bool:
    """Returns whether a network's name is that of another one, or lists its first stages."""
    return f"{whole}+".startswith(f"{name}+")
