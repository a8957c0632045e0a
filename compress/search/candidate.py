"""A choice becomes a network: it continues from another one, step by step. Read `Bench` first.

Units go, layers are factorised, weights are pruned and trained, and what is left gets codebooks.
Whatever keeps the shapes (densities and bits) is data of programs that are compiled once.
"""

# R replicates

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from compress import made as made_lib
from compress.fit import Recipe
from compress.made import Made, Pipeline
from compress.search import codebooks, settings
from compress.search.options import APART, Units
from compress.search.settings import Choice, Setting
from compress.stages import factorize, latent, quantize, rate, structured
from compress.stages.latent import Quantizer
from compress.stages.stage import unpruned
from groundwork import trees
from groundwork.devices import mesh as mesh_lib
from groundwork.sections import TrainSpec
from groundwork.train import networks
from groundwork.trees import Variables
from pruning import masks
from pruning.structured import Graph, lowest_go


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What all candidates of a run share.

    Attributes:
      pipeline: of the run; its spec has the sections `structured` and `quantize`.
      graph: of the units of the original; None if none of them can go.
      most_bits: the largest number of bits of any candidate, for which codebooks have room.
    """

    pipeline: Pipeline
    graph: Graph | None
    most_bits: int


class State(NamedTuple):
    """A network before its weights get codebooks, and the step that its training has reached."""

    made: Made
    step: int


def shaped(bench: Bench, choice: Choice, before: Made) -> Made:
    """Returns a network that has lost its units and whose layers are factorised.

    Args:
      bench: of the run.
      choice: all of whose densities are below those of the network.
      before: a network with the units and the layers of the original, which may be pruned.

    Raises:
      ValueError: the choice does both, which no file can hold, or names units that cannot go.
    """
    plan, units = settings.plan(choice), settings.units(choice)
    if not units:
        return factorize.factorised(bench.pipeline, before, plan) if plan else before
    if plan or bench.graph is None:
        raise ValueError(APART if plan else "no units of this network can go")
    known = {group.name: group.units for group in bench.graph.groups}
    gone = {n: 1 - Units(known[n], ()).kept(share) / known[n] for n, share in units.items()}
    return structured.without(bench.pipeline, bench.graph, before, gone)


def pruned(made: Made, choice: Choice, share: float) -> Made:
    """Returns a network with fewer weights, those of the largest magnitudes.

    A kernel of n weights of which k are left keeps k (t / k)**share, where t = round(density n) is
    what the choice leaves of it (of each factor of a factorised layer), at least 1, and at most k.

    Args:
      made: see `State`.
      choice: the densities; layers that it does not name keep all that they have.
      share: of the way there, in (0, 1].
    """
    leaves = masks.flatten(made.variables["params"])
    mask: dict[str, Any] = {}
    for path, weights in leaves.items():
        before = np.asarray(made.mask.get(path, np.ones(weights.shape, bool)))
        density = of_path(choice, path).density
        mask[path] = np.stack(
            [_kept(w, m, density, share) for w, m in zip(weights, before, strict=True)]
        )
    params = trees.map_with_path(
        lambda path, leaf: np.where(mask[path], leaf, 0) if path in mask else leaf,
        made.variables["params"],
    )
    return made._replace(variables={**made.variables, "params": params}, mask={**made.mask, **mask})


def tuned(bench: Bench, unit: str, state: State, steps: TrainSpec) -> State:
    """Returns a network after some steps of training under its mask; as it is after none.

    Args:
      bench: of the run.
      unit: the name of the run's unit to which the rows of the training belong.
      state: the network.
      steps: their number, and the examples of each; the schedule begins anew with them.
    """
    made = state.made
    if not steps.steps:
        return state
    variables = _trained(bench, unit, state, steps, None, (made.variables, made.mask))
    return State(made._replace(variables=variables), _first(state, steps) + steps.steps)


def coded(bench: Bench, unit: str, state: State, choice: Choice, steps: TrainSpec) -> Made:
    """Returns a network whose kernels have codebooks, trained for some steps, for a file.

    Args:
      bench: of the run.
      unit: see `tuned`.
      state: the network.
      choice: the bits of kernels, 0 = float32, and of layers' inputs.
      steps: see `tuned`. Without any, biases make up for the mean errors of rounded weights.
    """
    pipeline, made = bench.pipeline, state.made
    section = pipeline.spec.sections["quantize"]
    inputs = {layer: one.activation_bits for layer, one in choice.items() if one.activation_bits}
    if inputs:
        form, variables = quantize.with_grids(pipeline, made, inputs, section.activation_range)
        made = made._replace(form=form, variables=variables)
    bits = _bits(made, choice)
    quantizer, kept = Quantizer(section, bits), made.mask
    values = _each(lambda *one: codebooks.begin(quantizer, *one), made.variables, kept)
    if bits and section.rate:
        weighed = rate.importance(pipeline, made, [*bits]) if section.weighs else None
        values, kept = rate.assigned(quantizer, made, values, section.rate, weighed)
    if bits and steps.steps:
        values = _each(lambda one: codebooks.widened(bench.most_bits, one), values)
        mask = {path: held for path, held in kept.items() if path not in bits}
        most = Quantizer(section, dict.fromkeys(bits, bench.most_bits))
        values = _trained(bench, unit, state._replace(made=made), steps, most, (values, mask))
    elif bits:
        values = quantize.corrected(pipeline, quantizer, made, values)
        kept = unpruned(kept, values["params"], kept.keys() - bits.keys())
    stored = _each(lambda one: codebooks.finish(quantizer, one), values)
    return Made(made.form, stored, kept, bits)


def nearest(bench: Bench, made: Made, choice: Choice) -> Variables:
    """Returns the stored forms of replicate 0, each of whose weights gets the nearest value."""
    section, bits = bench.pipeline.spec.sections["quantize"], _bits(made, choice)
    variables, mask = (trees.replicate(tree, 0) for tree in (made.variables, dict(made.mask)))
    quantizer = Quantizer(section, bits)
    return codebooks.finish(quantizer, codebooks.begin(quantizer, variables, mask))


def recipe(
    bench: Bench, made: Made, steps: TrainSpec, quantizer: Quantizer | None = None
) -> Recipe:
    """Returns the recipe of a candidate, whose learning rate begins anew at every round."""
    tuning = bench.pipeline.spec.fine_tuned(made.form, quantizer)
    return dataclasses.replace(tuning, steps=steps, restarts=True)


def _trained(
    bench: Bench,
    unit: str,
    state: State,
    steps: TrainSpec,
    quantizer: Quantizer | None,
    start: tuple[Any, Any],
) -> Any:
    """Returns the variables [R, …] after training, on the host."""
    context, made = bench.pipeline.context, state.made
    compiled = bench.pipeline.compiled(recipe(bench, made, steps, quantizer))
    begun = compiled.start(*context.put(start), step=_first(state, steps))
    counted = made_lib.parameters(made.variables["params"], made.mask)
    part, stop = context.run.unit(unit), _first(state, steps) + steps.steps
    end = networks.train(context, compiled.programs, part, stop, begun, counted, test=False)
    part.tidy()
    return mesh_lib.fetch(end)


def _first(state: State, steps: TrainSpec) -> int:
    """Returns the step at which a training begins, where the schedule begins anew.

    The data go on with it, so that rounds see different examples.
    """
    return -(-state.step // steps.steps) * steps.steps


def _bits(made: Made, choice: Choice) -> dict[str, int]:
    """Returns path of a kernel → its bits, of those that have few."""
    kernels = latent.kernels(trees.replicate(made.variables["params"], 0))
    bits = {path: of_path(choice, path).bits for path in kernels}
    return {path: number for path, number in bits.items() if number}


def _each(function: Callable[..., Any], *tree: Any) -> Any:
    """Returns the results of a function of one replicate, stacked, all on the host."""
    each = [function(*trees.replicate(tree, r)) for r in range(trees.replicates(tree))]
    return trees.stack(each)


def _kept(weights: Any, before: np.ndarray, density: float, share: float) -> np.ndarray:
    """Returns which weights of one replicate's kernel are kept; ties go to the lower index."""
    left = int(before.sum())
    target = min(left, max(1, round(density * weights.size)))
    count = max(target, round(left * (target / left) ** share))
    scores = np.where(before, np.abs(np.asarray(weights)), -np.inf).ravel()
    return (lowest_go(scores, scores.size - count) & before.ravel()).reshape(before.shape)


def of_path(choice: Choice, path: str) -> Setting:
    """Returns the setting of the layer that has a parameter; of factors, that of their layer."""
    layers = [layer for layer in choice if f"{path}/".startswith(f"{layer}/") or not layer]
    return choice[max(layers, key=len)] if layers else Setting()
