"""Growing regularisation: units that were chosen to go are trained to vanish before they do."""

# R replicates

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

from groundwork.devices import processes
from groundwork.train import networks, optim, programs
from groundwork.trees import Variables
from pruning import structured
from pruning.fit import Experiment
from pruning.structured import Graph, Keep


def faded(experiment: Experiment, name: str, variables: Variables, keep: Keep) -> Variables:
    """Returns variables [R, …] of the whole network, trained so that some units become small.

    Source: Wang et al., arXiv:2012.09243 (GReg-1). Departs: all entries of a unit fade, those of
    the layers that take it too; the criterion of the run has chosen the units.

    Args:
      experiment: the run and its network.
      name: of the point and iteration, such as `0.5/1`; the unit is `faded/0.5/1`.
      variables: [R, …], on the host.
      keep: the units that do not fade.
    """
    context, spec = experiment.context, experiment.spec
    unit = context.run.unit(f"faded/{name}")
    if unit.name not in processes.on_first(context.run.units):
        steps = dataclasses.replace(spec.fine_tune, steps=spec.sparsity.steps)
        compiled = programs.make(
            experiment.model,
            growing(experiment, None),
            context.dataset,
            context.mesh,
            batch_size=steps.batch_size,
            stride=context.poll_steps,
            objective=experiment.loss,
        )

        def begin(variables: Variables, gone: Any) -> tuple[Variables, Any]:
            return variables, growing(experiment, gone).init(variables["params"])

        start = networks.make_start(context, begin, once=True)
        state = start(*context.put((variables, entries(experiment.graph, variables, keep))))
        end = networks.train(context, compiled, unit, steps.steps, state)
        accuracies = networks.accuracies(context, compiled, end)
        unit.finish({"variables": end}, accuracies)
        context.reporter.end(
            f"test {experiment.loss.metric.words} {np.mean(accuracies['test']):.4f}"
        )
    return unit.result()[0]["variables"]


def growing(experiment: Experiment, gone: Any) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser of fine-tuning behind the growing regularisation of the config.

    Args:
      experiment: the run.
      gone: of each parameter of a replicate, which entries fade; None if its state has them.
    """
    spec = experiment.spec.sparsity
    grow = structured.growing(gone, step=spec.step, every=spec.every, ceiling=spec.weight)
    tuning = optim.make(experiment.spec.fine_tune_optimizer, spec.steps)
    return optax.with_extra_args_support(optax.chain(grow, tuning))


def entries(graph: Graph, variables: Variables, keep: Keep) -> Any:
    """Returns of each parameter [R, …] bool: the entries of units that are not kept."""
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), variables)
    kept = structured.mask(graph, ones, keep)["params"]
    return jax.tree.map(lambda leaf: np.asarray(leaf) == 0, kept)
