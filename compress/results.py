"""The numbers of a run, read back from its folder: what tables and figures are made of."""

# R replicates

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.errors import UserError
from groundwork.runs import run as run_lib
from groundwork.runs.results import RunResults, open_results

ORIGINAL = "original"
LOSSES = {"at no loss": 0.0, "within one point": 0.01}  # of mean accuracy, to choose by
_UNITS = "networks/"


@dataclasses.dataclass(frozen=True)
class Stream:
    """Where bytes of a network's files go; lists have an entry a replicate."""

    path: str  # of the array; empty: the header's, or numbers of several arrays
    kind: str  # "weights", "index", "codebook", "other" or "header"
    bytes: list[int]
    symbols: list[int]
    bits: list[float]  # of a symbol, at one width for all
    coded_bits: list[float]  # of a symbol in the file
    entropy_bits: list[float]


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of the tree; lists have an entry a replicate."""

    name: str
    parent: str  # empty: the original
    stage: str
    setting: float
    leaf: bool  # the end of the pipeline
    bits: dict[str, int]  # path → bits of a quantised weight
    activations: dict[str, int]
    validation: list[float]  # accuracy; empty where there is no such split
    test: list[float]
    bytes: list[int]  # of the file
    float_bytes: int  # of the original's parameters as float32
    load_seconds: float
    milliseconds: dict[str, list[float]]  # batch size → the original's, its own, in one run
    sizes: dict[str, int]  # path → entries of a parameter
    kept: dict[str, list[int]]  # path → those that are not pruned
    streams: list[Stream]
    masked: list[str]  # paths of the leaves that have a mask

    @property
    def step(self) -> str:
        """What was done to its parent, e.g. `quantize-4`."""
        return self.name.rpartition("+")[2]

    @property
    def mean_bytes(self) -> float:
        """Of its files."""
        return float(np.mean(self.bytes))

    @property
    def times_smaller(self) -> float:
        """Than the original's parameters as float32."""
        return self.float_bytes / self.mean_bytes

    def density(self, *paths: str) -> float | None:
        """Kept / prunable, of those of `paths` that have a mask, or of all; None if none has."""
        found = [path for path in self.masked if not paths or path in paths]
        if not found:
            return None
        kept = np.mean(np.sum([self.kept[path] for path in found], axis=0))
        return float(kept / sum(self.sizes[path] for path in found))


@dataclasses.dataclass(frozen=True)
class Results(RunResults):
    """A run and its finished networks: the original, then those of one stage, of two, …"""

    networks: list[Network]

    @property
    def original(self) -> Network:
        """What all others were made of."""
        return self.networks[0]

    @property
    def leaves(self) -> list[Network]:
        """Ends of the pipeline."""
        return [network for network in self.networks if network.leaf]

    @property
    def judged_by(self) -> str:
        """The split by which networks are chosen."""
        return "validation" if self.original.validation else "test"

    def smallest(self, loss: float) -> Network | None:
        """Of the fewest bytes, of those whose mean accuracy is at most `loss` below the original's.

        On the validation split where there is one. None if there is no such network beside the
        original; of equal sizes the more accurate one.
        """
        enough = self._judged(self.original) - loss - 1e-9  # sums of floats are not exact
        found = [network for network in self.networks[1:] if self._judged(network) >= enough]
        return min(found, key=lambda n: (n.mean_bytes, -self._judged(n)), default=None)

    def chosen(self) -> list[Network]:
        """The smallest of each of `LOSSES`, each once."""
        found = [self.smallest(loss) for loss in LOSSES.values()]
        return list({network.name: network for network in found if network}.values())

    def chain(self, network: Network) -> list[Network]:
        """From the original to `network`: what each stage left, as far as it is finished."""
        by_name = {other.name: other for other in self.networks}
        found = [network]
        while parent := by_name.get(found[0].parent):
            found.insert(0, parent)
        return [n for n in found if n.name == ORIGINAL or _starts(n.name, network.name)]

    def front(self) -> list[Network]:
        """Networks that no other beats in both mean bytes and mean test accuracy."""
        found = pareto(
            [network.mean_bytes for network in self.networks],
            [float(np.mean(network.test)) for network in self.networks],
        )
        return [self.networks[index] for index in found]

    def _judged(self, network: Network) -> float:
        return float(np.mean(getattr(network, self.judged_by)))


def read(workdir: str | Path) -> Results:
    """The finished part of a run.

    Raises:
      UserError: no run, no finished original yet, or a damaged checkpoint.
    """
    run, fields = open_results(workdir, "compress")
    if not run.unit(_UNITS + ORIGINAL).done:
        raise UserError(f"{run.folder} has no finished original network yet")
    units = (unit for unit in run.units() if unit.startswith(_UNITS))
    names = sorted((unit.removeprefix(_UNITS) for unit in units), key=_order)
    networks = [_network(run, name) for name in names]
    return Results(**fields, networks=networks)


def load(workdir: str | Path, name: str) -> Any:
    """Variables of a finished network, such as `prune-12+quantize-4`: leaves [R, …]; verified.

    Raises:
      UserError: the run has no such network (lists those it has), or its checkpoint is damaged.
    """
    return load_all(workdir, name)[0]


def load_all(workdir: str | Path, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """As `load`, and the mask: path → [R, …], of the leaves that have one."""
    tree = run_lib.result_of(workdir, _UNITS + name)
    return tree["variables"], tree.get("mask", {})


def parameter(variables: Any, path: str) -> np.ndarray:
    """[R, …]: that of a path such as `fc1/kernel`."""
    inner = variables["params"]
    for part in path.split("/"):
        inner = inner[part]
    return np.asarray(inner)


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Places of the points that none other beats, the cheapest first.

    One point beats another that costs no less and is worth no more; of equal ones the first.
    """
    found: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i], i)):
        if not found or values[place] > values[found[-1]]:
            found.append(place)
    return found


def _network(run: run_lib.Run, name: str) -> Network:
    tree, metadata = run.unit(_UNITS + name).result()
    given = {"validation": []} | metadata
    given["streams"] = [Stream(**stream) for stream in metadata["streams"]]
    given["masked"] = sorted(tree.get("mask", {}))
    return Network(**{field.name: given[field.name] for field in dataclasses.fields(Network)})


def _order(name: str) -> tuple[Any, ...]:
    """The original, then by the number of stages, then by their names and settings."""
    steps = name.split("+")
    return name != ORIGINAL, len(steps), [_numbered(step) for step in steps]


def _numbered(step: str) -> tuple[str, float]:
    match = re.fullmatch(r"(.*?)-?(\d+(?:\.\d*)?(?:e-?\d+)?)?", step)
    assert match  # anything is a name without a number
    return match[1], float(match[2] or 0)


def _starts(name: str, whole: str) -> bool:
    """Is this network one of the stages that the name of another lists, or that itself?"""
    return f"{whole}+".startswith(f"{name}+")
