"""A trained network that loses weights and is fine-tuned: once, or while a target is held."""

# R replicates

import math

import numpy as np

from groundwork.devices import processes
from groundwork.train import judging
from pruning.weights.masking import groups, masked
from pruning.weights.methods import Setting
from pruning.weights.network import Experiment, Network, load, save
from pruning.weights.section import Point
from pruning.weights.spec import unit_name
from pruning.weights.training import Phase, trained


def fine_tuned(
    experiment: Experiment,
    name: str,
    network: Network,
    density: float,
    turn: int,
    final: float | None = None,
) -> Network:
    """Prunes a network to a density and fine-tunes it; a unit that is done is loaded.

    Args:
      experiment: the run.
      name: of the unit.
      network: which is pruned.
      density: kept / prunable after it.
      turn: from 1; random criteria draw anew in each.
      final: see `groups`.
    """
    spec, run = experiment.spec, experiment.context.run
    if name in processes.on_first(run.units):
        return load(experiment, name)[0]
    planned = groups(spec.prune, experiment.leaves, density, final)
    start, untouched = masked(experiment, spec.prune.criterion, network, planned, turn)
    setting = Setting(
        section=spec.prune,
        steps=spec.fine_tune.steps,
        paths=planned.paths,
        counts=planned.counts,
        strength=0.0,
    )
    phase = Phase(spec.fine_tune, spec.fine_tune_optimizer, spec.prune.how.wrap, setting)
    return trained(experiment, name, start, phase, {"untouched": untouched, "asked": density})


def search(experiment: Experiment, point: Point) -> None:
    """Saves the sparsest network that holds the target on the validation split.

    `iterative` prunes on from one network to the next, by the same share each time, until the first
    that does not hold it. `one_shot` prunes the dense network each time, and bisects the logarithm
    of the density. What is judged is the mean over replicates, after fine-tuning. If no network
    holds it, the result is the dense one.
    """
    spec, context = experiment.spec, experiment.context
    turns, least = spec.prune.iterations, spec.prune.least_density
    dense, metadata = load(experiment, "dense")
    target = _target(experiment, metadata["validation"])
    best, last, high, low = "dense", dense, 1.0, least
    for turn in range(1, turns + 1):
        name = f"iterations/{point.label}/{turn}"
        iterative = spec.prune.method == "iterative"
        density = least ** (turn / turns) if iterative else math.sqrt(low * high)
        last = fine_tuned(experiment, name, last if iterative else dense, density, turn)
        holds = _score(experiment, load(experiment, name)[1]["validation"]) >= target
        if holds:
            best, high = name, density
        elif iterative:
            break
        else:
            low = density
    network, metadata = load(experiment, best)
    if best == "dense":
        context.reporter.say("warning: no sparse network holds the target: the result is dense")
    context.reporter.begin(unit_name(point), 0, 1)
    measured = {split: metadata[split] for split in ("validation", "test")}
    more = {"before": metadata["before"], "untouched": metadata["untouched"], "target": target}
    judged = judging.of_unit(*context.run.unit(best).result())
    save(experiment, unit_name(point), network, measured, more, judged)


def _target(experiment: Experiment, dense: list[float]) -> float:
    """Returns the least score that is to be held."""
    prune = experiment.spec.prune
    if prune.keep_accuracy:
        return _score(experiment, dense) - prune.keep_accuracy
    return experiment.loss.metric.sign * prune.least_accuracy


def _score(experiment: Experiment, values: list[float]) -> float:
    """Returns the mean over replicates, of which more is better."""
    return experiment.loss.metric.sign * float(np.mean(values))
