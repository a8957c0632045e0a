"""The stage `distill`: a student, of this architecture or another, learns from its teachers.

Between the network before and the student may stand assistants, each taught by the one before;
students may teach each other instead; and layers of the teacher may give hints.

Source: Hinton et al., arXiv:1503.02531; chains: Mirzadeh et al., arXiv:1902.03393.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped, unit_name
from compress.stages import hinted, peers, students, teachers
from compress.stages.hinted import Hinted
from compress.stages.stage import Stage, train
from compress.stages.students import ALONE, HINT, STUDENT, DistillSpec
from groundwork import architectures, trees
from groundwork.data.dataset import AnyDataset
from groundwork.errors import UserError, about
from groundwork.train import networks
from groundwork.trees import Shapes, Variables
from pruning import masks, structured
from pruning.structured import Graph


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
    made = shaped
    for model in (*section.assistants, section.model):
        made = _checked(section, made, model) if section.init != "keep" else made
    if section.hints and shaped.shapes is not None:
        hinted.sizes(
            _hinted(section, shaped.form), (made.form, made.shapes), shaped.shapes, example
        )
    return made


def _checked(section: DistillSpec, shaped: Shaped, wanted: Mapping[str, Any]) -> Shaped:
    """Returns the shapes of a student of a `model` section, or of the same architecture."""
    example = shaped.dataset.example
    model = _student(wanted, shaped.form.model, shaped.dataset.classes)
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
    """Trains a student, an assistant, or a control; `before` is the network that would teach it."""
    context, section = pipeline.context, pipeline.spec.sections["distill"]
    step = node.name.rpartition("+")[2]
    if step.startswith(peers.PEER):
        return peers.other(pipeline, node, before)
    student = before._replace(peers={})
    if section.init != "keep":
        number = int(node.setting)  # of an assistant, from 1
        wanted = section.assistants[number - 1] if number else section.model
        model = _student(wanted, before.form.model, context.dataset.classes)
        fresh = section.init == "fresh"
        start = networks.initial(context, model) if fresh else _shrunk(pipeline, before, model)
        student = Made(Form(model), start, {}, {})
    if step == STUDENT and section.mutual:
        return peers.train(pipeline, node, student.form, student.variables)
    if step in (STUDENT, HINT) and section.hints:
        return _hint(pipeline, node, student, before)
    teacher = None if step == ALONE else before
    recipe = pipeline.spec.as_original(student.form)
    learned = train(pipeline, node, recipe, (student.variables, student.mask), teacher)
    return student._replace(variables=learned)


def _hint(pipeline: Pipeline, node: Node, student: Made, before: Made) -> Made:
    """Trains a student that is given hints, beside teaching or in two stages."""
    context, section = pipeline.context, pipeline.spec.sections["distill"]
    recipe, variables = pipeline.spec.as_original(student.form), student.variables
    first = node.name.endswith(HINT)
    if section.hint_steps and not first:
        tree, _ = context.run.unit(unit_name(node.name.removesuffix(STUDENT) + HINT)).result()
        variables = tree["variables"]
    else:
        given = _hinted(section, before.form)
        steps = section.hint_steps or recipe.steps.steps
        sized = dataclasses.replace(recipe.steps, steps=steps)
        recipe = dataclasses.replace(recipe, hinted=given, steps=sized)
        pair = student.form, variables
        variables = hinted.begin(context, given, pair, before.variables)
    learned = train(pipeline, node, recipe, (variables, student.mask), before)
    return student._replace(variables=learned)


def _hinted(section: DistillSpec, teacher: Form) -> Hinted:
    weight, alone = section.hint_weight, section.hint_steps > 0
    pairs: Any = section.hints  # which the section has checked
    return Hinted(pairs, teacher, 1.0 if alone else weight, alone)


def _student(wanted: Mapping[str, Any], model: nn.Module, classes: int) -> nn.Module:
    return architectures.build(wanted, classes) if wanted else model


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
    steps=students.steps,
    place=place,
    check=check,
    begin=begin,
    trains=lambda section: ("train",),
    idle=students.idle,
)
