"""The first mask of a training: how many weights each layer keeps, and which."""

# R replicates

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from groundwork import architectures, trees
from groundwork.devices import mesh as mesh_lib
from groundwork.errors import UserError, about
from groundwork.traced import reach
from groundwork.train import networks, replicates
from groundwork.trees import Variables
from pruning import densities, masks, patterns, rounds
from pruning.criteria import CRITERIA
from pruning.masks import Mask
from pruning.patterns import Pattern
from pruning.patterns.pattern import INPUTS
from pruning.pruner import Seen, evidence_of, make_corrector, make_pruner
from pruning.weights.network import Experiment, Network
from pruning.weights.section import WeightsPruneSpec

LAYERS = {
    "layerwise": densities.uniform,
    "erdos_renyi": densities.erdos_renyi,
    "erdos_renyi_kernel": densities.erdos_renyi_kernel,
}


class Groups(NamedTuple):
    """Which leaves are ranked together, and how many weights each group keeps."""

    paths: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    density: float  # that is asked for
    pattern: Pattern | None = None  # then paths and counts are not used


def groups(
    section: WeightsPruneSpec, leaves: Mapping[str, Any], density: float, final: float | None = None
) -> Groups:
    """Returns what a density means for the leaves of a network.

    Every leaf is a group, by one of the scopes of `LAYERS`, but for `global`, which ranks all of
    them together. Leaves that stack layers are ranked whole.

    Args:
      section: the config's `prune`.
      leaves: path → shape of what may be pruned.
      density: kept / prunable.
      final: the density to which what is left is pruned later: no group keeps fewer weights than
        then, as rounding could have it.

    Raises:
      UserError: nothing would be kept.
    """
    if section.pattern != "none":
        return Groups({}, {}, density, patterns.parse(section.pattern))
    with about("prune.least_density" if section.searches else "prune.density"):
        if section.scope == "global":
            total = sum(int(np.prod(leaf.shape)) for leaf in leaves.values())
            paths, counts = (
                {"all layers": tuple(sorted(leaves))},
                {"all layers": round(density * total)},
            )
        else:
            paths = {path: (path,) for path in sorted(leaves)}
            counts = densities.counts(leaves, LAYERS[section.scope](leaves, density))
        if not sum(counts.values()):
            raise ValueError(f"{density:g} keeps none of the weights: choose a larger one")
    if final is not None:
        last = groups(section, leaves, final).counts
        counts = {name: max(count, last[name]) for name, count in counts.items()}
    return Groups(paths, counts, density)


def check_pattern(
    section: WeightsPruneSpec, leaves: Mapping[str, Any], model: Any, example: Any
) -> None:
    """Refuses a pattern that fits no layer, and densities at which it keeps nothing.

    Args:
      section: the config's `prune`.
      leaves: path → shape of what may be pruned.
      model: the network.
      example: of the data set.

    Raises:
      UserError: the error names the key.
    """
    pattern = patterns.parse(section.pattern)
    left = patterns.unfit(pattern, leaves, input_axes(model, example, leaves))
    if len(left) == len(leaves):
        path, why = next(iter(left.items()))
        raise UserError(f"prune.pattern: {pattern} fits no layer; {path}: {why}")
    if isinstance(pattern, patterns.NM) or left:
        return
    if isinstance(pattern, patterns.PerOutput):
        sizes = [math.prod(leaf.shape[:-1]) for leaf in leaves.values()]
    else:
        sizes = [math.prod(leaf.shape) // math.prod(pattern) for leaf in leaves.values()]
    for density in section.densities:
        if not any(round(density * size) for size in sizes):
            raise UserError(f"prune.density: {density:g} keeps nothing in the pattern {pattern}")


def masked(
    experiment: Experiment, criterion: str, network: Network, planned: Groups, turn: int
) -> tuple[Network, dict[str, str]]:
    """Returns a network with the mask that a criterion chooses, and path → what is left dense.

    With `prune.correct`, the weights that stay make up for those that go.

    Args:
      experiment: the run.
      criterion: its name.
      network: which is pruned.
      planned: how much is kept.
      turn: random criteria draw anew in each.
    """
    context, needs = experiment.context, CRITERIA[criterion].needs
    placed = context.put((network.mask, network.variables))
    more = {name: getattr(network, name) for name in ("initial", "movement") if name in needs}
    counts = {g: np.full(context.replicates, n, np.int32) for g, n in planned.counts.items()}
    prune, untouched = _make(experiment, criterion, planned)
    with about("prune.criterion"):
        mask = prune(context.roots, *placed, context.put(counts), turn, context.put(more))
    variables = network.variables
    if experiment.spec.prune.correct:
        correct = _corrector(experiment, criterion)
        variables = correct(context.roots, placed[0], mask, placed[1])
    return network._replace(mask=mesh_lib.fetch(mask), variables=variables), untouched


def _make(
    experiment: Experiment, criterion: str, planned: Groups
) -> tuple[Callable[..., Mask], dict[str, str]]:
    """Returns what prunes, compiled once for all densities of weights; and what is left dense."""
    mesh, paths, seen = experiment.context.mesh, planned.paths, _seen(experiment, criterion)
    if (pattern := planned.pattern) is None:
        key: Any = ("pruner", criterion, *paths.items())
        if key not in experiment.compiled:
            experiment.compiled[key] = make_pruner(mesh, CRITERIA[criterion], paths, **seen)
        return experiment.compiled[key], {}
    axes = input_axes(experiment.model, experiment.context.dataset.example, experiment.leaves)
    untouched = patterns.unfit(pattern, experiment.leaves, axes)

    def prune(
        root: jax.Array, mask: Mask, variables: Variables, more: Any, turn: Any
    ) -> tuple[Mask, jax.Array]:
        evidence = evidence_of(Seen(**seen), root, mask, variables, more, turn)
        scores = CRITERIA[criterion](evidence)
        density = None if isinstance(pattern, patterns.NM) else planned.density
        new, _ = patterns.prune_to(pattern, mask, scores, density, axes)
        return new, rounds.missing_in(scores, mask)

    mapped = replicates.each_replicate(mesh, prune, shared=1, once=True)

    def pruned(
        roots: jax.Array, mask: Mask, variables: Variables, counts: Any, turn: int, more: Any
    ) -> Mask:
        del counts
        new, missing = mapped(roots, mask, variables, more, turn)
        rounds.check(mesh_lib.fetch(missing))
        return new

    return pruned, untouched


def _corrector(experiment: Experiment, criterion: str) -> Callable[..., Variables]:
    """Returns what corrects the weights that stay, compiled once."""
    key = ("corrector", criterion)
    if key not in experiment.compiled:
        seen = _seen(experiment, criterion)
        experiment.compiled[key] = make_corrector(
            experiment.context.mesh, CRITERIA[criterion], **seen
        )
    return experiment.compiled[key]


def _seen(experiment: Experiment, criterion: str) -> dict[str, Any]:
    """Returns what a criterion sees of the network; see `networks.evidence`."""
    count = experiment.spec.prune.seen if CRITERIA[criterion].examples else 0
    return networks.evidence(experiment.context, experiment.model, count, experiment.loss)


def input_axes(model: Any, example: Any, leaves: Iterable[str]) -> dict[str, int]:
    """Returns path → the axis of the inputs, over which N:M has its groups, where it is known.

    It is read from the network. Where that does not reach a leaf, one that is called `kernel` has
    the axes of Flax, unless the network transposes it.

    Args:
      model: the network.
      example: one example, or its shape.
      leaves: the paths of what may be pruned.
    """
    shapes = architectures.shapes(model, example)
    reached, refused = reach.layers(model, shapes, trees.example(example))
    flax = [p for p in leaves if masks.is_kernel(p) and "transpose" not in refused.get(p, "")]
    return dict.fromkeys(flax, INPUTS) | patterns.input_axes(reached)
