"""A run over single weights, and its networks: what is known of each, saved and read."""

# R replicates

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from groundwork.context import Context
from groundwork.devices import mesh as mesh_lib
from groundwork.train import networks
from groundwork.train.judging import Judged
from groundwork.train.losses import Loss
from groundwork.trees import Variables
from pruning.criteria import CRITERIA
from pruning.masks import Mask
from pruning.weights.spec import WeightsSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, and the network whose weights go.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the network.
      loss: of the run.
      leaves: path → shape of the leaves that may be pruned, of one replicate.
      compiled: what is compiled so far, programs and others.
    """

    context: Context
    spec: WeightsSpec
    model: Any
    loss: Loss
    leaves: Mapping[str, Any]
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def initial(self) -> Variables:
        """The variables [R, …] before any training, on the host."""
        return mesh_lib.fetch(networks.initial(self.context, self.model))

    @property
    def sums_movement(self) -> bool:
        """Whether trainings sum up how weights move, since the criterion asks for it."""
        prune = self.spec.prune
        return prune.how.fine_tunes and "movement" in CRITERIA[prune.criterion].needs

    def dense(self) -> dict[str, Any]:
        """Returns the masks [R, …] that keep everything, on the host."""
        replicates = self.context.replicates
        return {p: np.ones((replicates, *leaf.shape), bool) for p, leaf in self.leaves.items()}


class Network(NamedTuple):
    """Masks [R, …] and variables [R, …], and what led to them."""

    mask: Mask
    variables: Variables
    trainings: tuple[str, ...] = ()  # units, from the initialisation on
    steps: int = 0  # of all of them
    initial: Any = None  # parameters [R, …] before any training, for criteria that look at them
    movement: Any = None  # of the last training, likewise


def save(
    experiment: Experiment,
    name: str,
    network: Network,
    measured: Mapping[str, Any],
    about: Mapping[str, Any],
    judged: Judged,
) -> None:
    """Saves a network as a unit, with its accuracies by split, and says what it is."""
    metadata = {
        "untouched": {},
        **measured,
        **judged.metadata,
        "density": densities(network.mask),
        "kept": kept(network.mask),
        "trainings": list(network.trainings),
        "steps": network.steps,
        **about,
    }
    for path, leaf in network.mask.items():
        if not np.reshape(leaf, (len(leaf), -1)).any(axis=1).all():
            experiment.context.reporter.say(f"warning: {name}: {path} is empty")
    tree = {"mask": network.mask, "variables": network.variables, **judged.tree}
    if network.movement is not None:
        tree["movement"] = network.movement
    experiment.context.run.unit(name).finish(tree, metadata)
    words = f"test {experiment.loss.metric.words} {np.mean(measured['test']):.4f}{judged.words}"
    experiment.context.reporter.end(f"density {np.mean(metadata['density']):.4f}, {words}")


def load(experiment: Experiment, name: str) -> tuple[Network, dict[str, Any]]:
    """Returns a finished network and its metadata."""
    tree, metadata = experiment.context.run.unit(name).result()
    needs = CRITERIA[experiment.spec.prune.criterion].needs
    network = Network(
        tree["mask"],
        tree["variables"],
        tuple(metadata["trainings"]),
        metadata["steps"],
        initial=experiment.initial["params"] if "initial" in needs else None,
        movement=tree.get("movement"),
    )
    return network, metadata


def densities(mask: Mask) -> list[float]:
    """Returns kept / prunable of each replicate, [R], from masks [R, …] on the host."""
    flat = np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in mask.values()], axis=1)
    return flat.mean(axis=1, dtype=np.float64).tolist()


def kept(mask: Mask) -> dict[str, tuple[float, int]]:
    """Returns path → (kept weights, the mean over replicates, and all weights)."""
    return {
        path: (float(leaf.sum(dtype=np.int64) / len(leaf)), math.prod(leaf.shape[1:]))
        for path, leaf in mask.items()
    }
