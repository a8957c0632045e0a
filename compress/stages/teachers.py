"""The teachers of a stage: runs that were trained before, and the network before the stage."""

# R replicates, K teachers

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill
from compress import form as form_lib
from compress.distill import Teacher
from compress.form import Form
from groundwork import architectures, buckets, copies, trees
from groundwork.data.dataset import AnyDataset
from groundwork.runs import identity, trained
from groundwork.train import replicates
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.train.step import LossFn, Model
from groundwork.trees import Variables

BEFORE = "before"  # the name of the network before the stage, as a teacher


@dataclasses.dataclass(frozen=True)
class Lessons:
    """The teachers, and their part in the loss.

    Attributes:
      teachers: `before` = the network before the stage, where each replicate teaches its own
        student; others are folders of runs, all of whose replicates teach, such as `runs/conv4` or
        `runs/conv4:UNIT`.
      unit: the unit of teachers that name none.
      temperature: see `compress.distill.make_loss`.
      weight: likewise.
      mean: likewise.
    """

    teachers: Annotated[tuple[str, ...], "names, such as ('before',)"]
    unit: str
    temperature: float
    weight: float
    mean: distill.Mean


@dataclasses.dataclass(frozen=True)
class Taught:
    """The teachers of a recipe."""

    lessons: Lessons
    before: Form | None  # the form of the network before the stage, if that is a teacher

    def loss(self, network: Model, teacher: Teacher, objective: Loss = CROSS_ENTROPY) -> LossFn:
        """Returns the training loss of a student; the objective is its part without teachers."""
        lessons = self.lessons
        return distill.make_loss(
            network,
            teacher,
            temperature=lessons.temperature,
            weight=lessons.weight,
            mean=lessons.mean,
            objective=objective,
        )


class Ensemble(NamedTuple):
    """The teachers of a stage as one function, loaded."""

    teacher: Teacher
    mapped: replicates.Form  # `single` if a teacher needs it


def taught(lessons: Lessons, before: Form) -> Taught:
    """Returns the teachers of a recipe."""
    return Taught(lessons, before if BEFORE in lessons.teachers else None)


def carried(lessons: Lessons, variables: Variables) -> tuple[Any, ...]:
    """Returns the variables [R, 1, …] of `before` that the student carries, if it teaches."""
    if BEFORE not in lessons.teachers:
        return ()
    return (jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], variables),)


def ensemble(teachers: Taught, dataset: AnyDataset) -> Ensemble:
    """Returns the teachers of a recipe, loaded; `dataset` is what the student learns."""
    lessons, before = teachers.lessons, teachers.before
    runs = [_load(lessons, name, dataset) for name in lessons.teachers if name != BEFORE]
    parts, models = [], [model for model, _ in runs]
    if before is not None:
        parts, models = [distill.carried(form_lib.network(before))], [*models, before.model]
    if runs:
        parts.append(distill.fixed(*runs))
    example = trees.zeros(dataset.example)
    forms = {replicates.default_form(model, example) for model in models}
    return Ensemble(_together(parts), "single" if "single" in forms else "looped")


def check(lessons: Lessons, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuses teachers that do not exist, or were trained on other classes or other data.

    Raises:
      UserError: names the teacher and the reason.
    """
    for name in lessons.teachers:
        if name == BEFORE:
            continue
        folder, _ = _place(lessons, name)
        trained.check_data(folder, config["data"], "distill.teachers", apart=True)
        _load(lessons, name, dataset)


def _load(lessons: Lessons, name: str, dataset: AnyDataset) -> tuple[Model, Variables]:
    """Returns the network of a run and its variables [K, …]."""
    folder, unit = _place(lessons, name)
    near = copies.near(folder, identity.FILE)
    section = identity.section(near, identity.read_about(near), "model")
    model = architectures.build(section, dataset.classes)
    variables = trained.load(folder, unit)
    shapes = architectures.shapes(model, dataset.example)
    count = trees.replicates(variables)
    return model, trained.replicated(variables, shapes, count, f"{folder}:{unit}")


def _place(lessons: Lessons, name: str) -> tuple[str, str]:
    scheme = "".join(name.partition("://")[:2]) if buckets.is_url(name) else ""
    folder, colon, unit = name.removeprefix(scheme).partition(":")
    return scheme + folder, unit if colon else lessons.unit


def _together(teachers: Sequence[Teacher]) -> Teacher:
    if len(teachers) == 1:
        return teachers[0]
    return lambda variables, inputs: jnp.concatenate([t(variables, inputs) for t in teachers])
