"""What the masks of runs have in common: between levels, replicates, branches and runs."""

# R replicates, n masks

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundwork import trees
from groundwork.errors import UserError
from lottery import analysis, results, tickets
from lottery.analysis import Compared
from lottery.results import Results
from pruning.masks import Mask

MOST = 16  # levels whose masks are compared; of more, some are left out evenly


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masks:
    """The masks of a run.

    Attributes:
      run: its results.
      levels: level → masks of its ticket, one per replicate; level 0 is left out.
      branches: branch → masks at the last level, where a control has other masks than the ticket.
    """

    run: Results
    levels: dict[int, list[Mask]]
    branches: dict[str, list[Mask]]

    @property
    def last(self) -> int:
        """The last level."""
        return max(self.levels)


def read(folder: Path) -> Masks:
    """Returns the masks of a run's finished levels: of at most `MOST`, the last one among them.

    Raises:
      UserError: there is no run with a pruned level, or a checkpoint is damaged.
    """
    run = results.read(folder)
    found = [point.level for point in run.of("ticket") if point.level]
    if not found:
        raise UserError(f"{folder} has no pruned level yet")
    chosen = np.unique(np.linspace(0, len(found) - 1, MOST).round().astype(int))
    levels = {found[place]: _masks(run, found[place]) for place in chosen}
    last = found[-1]
    others = {
        branch: _masks(run, last, branch)
        for branch in run.branches()
        if branch != "ticket" and (branch, last) in run.points
    }
    tickets_masks = levels[last]
    branches = {
        branch: masks
        for branch, masks in others.items()
        if _alike(masks[0], tickets_masks[0]) and not _equal(masks, tickets_masks)
    }
    return Masks(run=run, levels=levels, branches=branches)


def between_levels(masks: Masks) -> Compared:
    """Returns what each two levels have in common, [n, n]: means over replicates."""
    several = zip(*masks.levels.values(), strict=True)  # of each replicate, its levels
    return _mean([analysis.matrix(list(levels)) for levels in several])


def between_replicates(masks: Masks, level: int) -> Compared:
    """Returns what each two replicates have in common at a level, [R, R]."""
    return analysis.matrix(masks.levels[level])


def with_branch(masks: Masks, branch: str) -> Compared:
    """Returns what a control's masks have in common with the ticket's at the last level, [R]."""
    pairs = zip(masks.levels[masks.last], masks.branches[branch], strict=True)
    found = [[field[0, 1] for field in analysis.matrix(pair)] for pair in pairs]
    return Compared(*(np.array(values) for values in zip(*found, strict=True)))


def between_runs(runs: Sequence[Masks], level: int) -> Compared:
    """Returns what each two runs have in common at a level, [n, n].

    Replicate 0 of one run is compared with replicate 0 of another, and so on, as far as all have
    one; the result has the means.

    Raises:
      UserError: the runs are of different networks.
    """
    several = zip(*(run.levels[level] for run in runs), strict=False)
    try:
        return _mean([analysis.matrix(list(masks)) for masks in several])
    except ValueError as error:
        raise UserError(f"runs of different networks cannot be compared: {error}") from error


def common_levels(runs: Sequence[Masks]) -> list[int]:
    """Returns the levels that all runs have.

    Raises:
      UserError: there are none.
    """
    common = set.intersection(*(set(run.levels) for run in runs))
    if not common:
        raise UserError("the runs have no level in common")
    return sorted(common)


def pairs_of(overlap: Compared) -> dict[str, list[float]]:
    """Returns field → its values of each two different masks."""
    places = list(itertools.combinations(range(len(overlap.jaccard)), 2))
    return {
        name: [float(values[place]) for place in places]
        for name, values in overlap._asdict().items()
    }


def layers(masks: Masks) -> dict[str, dict[str, list[float]]]:
    """Returns layer → field → values of each two replicates, at the last level."""
    found: dict[str, dict[str, list[float]]] = {}
    for pair in itertools.combinations(masks.levels[masks.last], 2):
        for layer, overlap in analysis.by_layer(*pair).items():
            fields = found.setdefault(layer, {name: [] for name in Compared._fields})
            for name, value in overlap._asdict().items():
                fields[name].append(value)
    return found


def _masks(run: Results, level: int, branch: str = "ticket") -> list[Mask]:
    mask = tickets.load(run.folder, level, branch).mask
    count = len(next(iter(mask.values())))
    return [trees.replicate(mask, number) for number in range(count)]


def _alike(one: Mask, two: Mask) -> bool:
    """Returns whether the masks have the same paths and shapes, as of a narrower network not."""
    return {p: m.shape for p, m in one.items()} == {p: m.shape for p, m in two.items()}


def _equal(one: Sequence[Mask], two: Sequence[Mask]) -> bool:
    pairs = zip(one, two, strict=True)
    return all(np.array_equal(a[path], b[path]) for a, b in pairs for path in a)


def _mean(overlaps: Sequence[Compared]) -> Compared:
    return Compared(*(np.mean(values, axis=0) for values in zip(*overlaps, strict=True)))
