"""The stage `distill`: a student, of this architecture or another, learns from its teachers."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import flax.linen as nn
import jax
import numpy as np

from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages import teachers
from compress.stages.stage import Stage, one_each, train
from compress.stages.teachers import Lessons
from groundwork import architectures, trees
from groundwork.data.dataset import AnyDataset
from groundwork.errors import UserError, about, unknown
from groundwork.train import networks
from groundwork.trees import Shapes, Variables
from pruning import masks, structured
from pruning.structured import Graph

INITS = ("fresh", "shrink", "keep")


@dataclasses.dataclass(frozen=True)
class DistillSpec(Lessons):
    """`distill`: the student and its teachers.

    Attributes:
      model: the `model` section of the student; empty = the same architecture.
      init: `fresh`; `shrink` = the units that survived best, for a narrower student of the same
        family; `keep` = the network unchanged, for the same architecture.
      during: other stages in whose training the teachers teach, too.
    """

    model: Annotated[Mapping[str, Any], "a model section, or empty"]
    init: str
    during: Annotated[tuple[str, ...], "names, such as ('prune',)"]

    def __post_init__(self) -> None:
        if not self.teachers or len(set(self.teachers)) < len(self.teachers):
            raise UserError(f"distill.teachers={self.teachers} must name teachers, each once")
        if self.init not in INITS:
            raise unknown("distill.init", self.init, INITS)
        if not 0 <= self.weight <= 1:
            raise UserError(f"distill.weight={self.weight} must be in [0, 1]")
        if self.temperature <= 0:
            raise UserError(f"distill.temperature={self.temperature} must be positive")
        if self.init == "shrink" and not self.model:
            raise UserError("distill.init='shrink' needs a narrower distill.model to shrink to")
        if self.init == "keep" and self.model:
            raise UserError("distill.init='keep' keeps the network: leave distill.model empty")


def place(spec: CompressSpec) -> None:
    """Refuses to shrink layers that are tied or factorised."""
    if spec.sections["distill"].init == "shrink":
        for stage in spec.before("distill"):
            if stage in ("share", "factorize"):
                raise UserError(f"distill.init='shrink' takes no units of layers after {stage}")


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses a student that cannot be made."""
    section, example = spec.sections["distill"], shaped.dataset.example
    check_loss(spec, shaped.dataset)
    if section.init == "keep":
        return shaped
    model = _student(section, shaped.form.model, shaped.dataset.classes)
    small = architectures.shapes(model, example)
    if section.init == "shrink":
        with about("distill.init='shrink'"):
            wide, narrow = _graphs(shaped.form.model, shaped.shapes, model, small, example)
            alike = {group.name: np.ones(group.units) for group in wide.groups}
            structured.to_shape(wide, alike, narrow)
    return dataclasses.replace(shaped, form=Form(model), shapes=small)


def check_loss(spec: CompressSpec, dataset: AnyDataset) -> None:
    """Refuses losses without classes, since teachers answer with probabilities.

    Raises:
      UserError: the loss is not a cross-entropy of one label for each example.
    """
    if spec.loss.name != "cross_entropy" or len(getattr(dataset.target, "shape", ())) != 1:
        raise UserError(
            "distill softens the answers of classifiers: it needs loss=cross_entropy and one "
            f"label for each example, not loss={spec.loss.name}"
        )


def begin(spec: CompressSpec, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuses teachers that are missing or do not fit."""
    section = spec.sections["distill"]
    if "distill" in spec.stages or section.during:
        check_loss(spec, dataset)
        teachers.check(section, config, dataset)


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Trains a student, or the network itself, by its teachers."""
    context, section, form = pipeline.context, pipeline.spec.sections["distill"], before.form
    if section.init == "keep":
        start = before.variables, before.mask
        recipe = pipeline.spec.as_original(form)
        return before._replace(variables=train(pipeline, node, recipe, start, before))
    model = _student(section, form.model, context.dataset.classes)
    if section.init == "shrink":
        variables = _shrunk(pipeline, before, model)
    else:
        variables = networks.initial(context, model)
    student = Form(model)
    recipe = pipeline.spec.as_original(student)
    learned = train(pipeline, node, recipe, (variables, {}), before)
    return Made(student, learned, {}, {})


def _student(section: DistillSpec, model: nn.Module, classes: int) -> nn.Module:
    return architectures.build(section.model, classes) if section.model else model


def _graphs(
    wide: nn.Module, shapes: Shapes, narrow: nn.Module, small: Shapes, example: Any
) -> tuple[Graph, Graph]:
    """Returns the units of a network and of its student, which is narrower."""
    return (
        structured.groups(wide, shapes, example),
        structured.groups(narrow, small, example),
    )


def _shrunk(pipeline: Pipeline, before: Made, model: nn.Module) -> Variables:
    """Returns the variables [R, …] of a narrower network: of each replicate, its best units.

    A unit's score is the product of the norms of its weights that survived in each kernel. Pruned
    weights are zero, and are trained again.
    """
    context = pipeline.context
    small = architectures.shapes(model, context.dataset.example)
    pruned = {**before.variables, "params": masks.apply(before.mask, before.variables["params"])}
    each = [jax.tree.map(np.asarray, trees.replicate(pruned, r)) for r in range(context.replicates)]
    shapes = jax.eval_shape(lambda: each[0])
    wide, narrow = _graphs(before.form.model, shapes, model, small, context.dataset.example)
    kept = [
        structured.to_shape(wide, structured.scores(wide, one, "product"), narrow) for one in each
    ]
    keep = {name: np.stack([one[name] for one in kept]) for name in kept[0]}
    return jax.tree.map(np.asarray, structured.cut(wide, trees.stack(each), keep))


STAGE = Stage(
    section=DistillSpec,
    run=run,
    steps=lambda section: one_each("distill", (0,)),
    place=place,
    check=check,
    begin=begin,
    trains=lambda section: ("train",),
)
