"""The definition of a stage, and how a stage trains networks.

A new stage is a file of this package with its section, its check, its run and a `STAGE`; a line in
`all_stages.STAGES`; and the section's defaults in `configs/compress/base.py`.
"""

# R replicates

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from compress import distill, hints
from compress import made as made_lib
from compress.fit import Recipe
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages import teachers
from groundwork import trees
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.train import networks
from groundwork.trees import Params, Variables
from pruning import enforce
from pruning.masks import Mask

LOOKS = (
    "activation_bits, bias_correction, mixed, rate_importance and svd_outputs look at examples: "
    "data.stream=false"
)


class Step(NamedTuple):
    """One network that a stage makes of each network that it is given."""

    name: str  # "prune-12"
    setting: float  # level, share or bits; 0 if the stage has none
    after: str = ""  # the step of this stage that it continues; "" = the network before the stage
    continues: bool = True  # whether the next stage starts from it


def one_each(stage: str, settings: Sequence[float]) -> list[Step]:
    """Returns one step per setting; a setting of 0 is not part of the name."""
    return [Step(stage + (f"-{s:g}" if s else ""), s) for s in settings]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of step of the pipeline.

    Attributes:
      section: the dataclass of its section of the config, which checks itself.
      run: pipeline, node, network before → the network that the stage makes.
      steps: section → the networks that the stage makes of each network before it.
      place: refuses other stages, or orders of them, that do not fit.
      check: refuses what must fail, by shapes alone; returns the shapes after the stage.
      begin: checks what only a new run needs; it is called for stages that the run lacks, too.
      trains: section → the sections by whose steps it trains: `train`, `fine_tune`, or none.
      idle: section → its keys that change nothing, and why; see `groundwork.idle`.
      first: the reason why it must precede the stages below it in `STAGES`; empty = it may have any
        place before the last stage.
    """

    section: type
    run: Callable[[Pipeline, Node, Made], Made]
    steps: Callable[[Any], list[Step]]
    place: Callable[[CompressSpec], None] = lambda spec: None
    check: Callable[[CompressSpec, Shaped], Shaped] = lambda spec, shaped: shaped
    begin: Callable[[CompressSpec, Mapping[str, Any], AnyDataset], None] = lambda *_: None
    trains: Callable[[Any], tuple[str, ...]] = lambda section: ("fine_tune",)
    idle: Callable[[Any], Mapping[str, str]] = lambda section: {}
    first: str = ""


def train(
    pipeline: Pipeline,
    node: Node,
    recipe: Recipe,
    start: tuple[Variables, Mask],
    before: Made | None,
) -> Variables:
    """Returns the variables [R, …] after training, on the host; a unit that had begun continues.

    The `parameters` of its rows are those that are not pruned; a network that is quantised has as
    many as it had before the stage.

    Where the recipe has no steps, they are those of the start under the mask, and nothing is
    compiled to train.

    Args:
      pipeline: of the run.
      node: the network to train.
      recipe: `as_original` or `fine_tuned` of the spec; teachers are added here.
      start: variables [R, …], and the mask of parameters that stay zero, which may be empty.
      before: the network before the stage, which may teach; None for the original.
    """
    context, (variables, mask) = pipeline.context, start
    if not recipe.steps.steps:
        return pipeline.mapped(_masked, variables, mask)
    if before is not None:
        lessons = pipeline.spec.sections["distill"]
        if node.stage in ("distill", *lessons.during):
            recipe = dataclasses.replace(recipe, taught=teachers.taught(lessons, before.form))
            if carried := teachers.carried(lessons, before.variables):
                variables = distill.carry(variables, *carried)
    whole = before if before is not None and recipe.quantizer else None
    counted, kept = (whole.variables, whole.mask) if whole else (hints.without(variables), mask)
    parameters = made_lib.parameters(counted["params"], kept)
    compiled = pipeline.compiled(recipe)
    state = compiled.start(*context.put((variables, mask)))
    unit, steps = context.run.unit(node.unit), recipe.steps.steps
    end = networks.train(context, compiled.programs, unit, steps, state, parameters)
    return mesh_lib.fetch(hints.without(distill.without_teachers(end)))


def unpruned(mask: Mask, params: Params, paths: Iterable[str]) -> Mask:
    """Returns a mask after biases were written: of these paths, what is no longer 0 is kept.

    Args:
      mask: path → [R, …].
      params: [R, …].
      paths: of leaves; those that the mask lacks are ignored.
    """
    leaves = trees.flatten(params)
    return {**mask, **{path: mask[path] | (leaves[path] != 0) for path in paths if path in mask}}


def _masked(variables: Variables, mask: Mask) -> Variables:
    return {**variables, "params": enforce.apply(mask, variables["params"])}
