"""Who teaches a stage: runs that were trained before, and the network that the stage was given."""

# R replicates, K teachers

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill
from compress import form as form_lib
from compress.distill import Teacher
from compress.form import Form
from groundwork import architectures, trees
from groundwork.data.dataset import AnyDataset
from groundwork.runs import identity, trained
from groundwork.train import replicates
from groundwork.train.step import LossFn, Model
from groundwork.trees import Variables

BEFORE = "before"  # the teacher: the network that the stage was given


@dataclasses.dataclass(frozen=True)
class Lessons:
    """Who teaches, and how much of the loss that is.

    Attributes:
      teachers: `before` = the network that the stage was given, each replicate its own; others are
        folders of runs, all of whose replicates teach, as `runs/conv4` or `runs/conv4:UNIT`.
      unit: of those that name none.
      temperature, weight, mean: see `compress.distill.make_loss`.
    """

    teachers: tuple[str, ...]
    unit: str
    temperature: float
    weight: float
    mean: distill.Mean


@dataclasses.dataclass(frozen=True)
class Taught:
    """What tells teachers apart: part of a recipe."""

    lessons: Lessons
    before: Form | None  # the form of the network before, if that is one of the teachers

    def loss(self, network: Model, teacher: Teacher) -> LossFn:
        """Returns the loss of a student."""
        lessons = self.lessons
        return distill.make_loss(
            network,
            teacher,
            temperature=lessons.temperature,
            weight=lessons.weight,
            mean=lessons.mean,
        )


class Ensemble(NamedTuple):
    """The teachers of a stage, ready to answer."""

    teacher: Teacher
    mapped: replicates.Form  # `single` where one of them needs it


def taught(lessons: Lessons, before: Form) -> Taught:
    """Returns the part of a recipe that names teachers."""
    return Taught(lessons, before if BEFORE in lessons.teachers else None)


def carried(lessons: Lessons, variables: Variables) -> tuple[Any, ...]:
    """Returns the variables [R, 1, …] that travel with the student: those of the network before."""
    if BEFORE not in lessons.teachers:
        return ()
    return (jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], variables),)


def ensemble(teachers: Taught, dataset: AnyDataset) -> Ensemble:
    """Returns the teachers; runs are loaded.

    Args:
      teachers: of a recipe.
      dataset: what is learnt.
    """
    lessons, before = teachers.lessons, teachers.before
    runs = [_load(lessons, name, dataset) for name in lessons.teachers if name != BEFORE]
    parts, models = [], [model for model, _ in runs]
    if before is not None:
        parts, models = [distill.carried(form_lib.network(before))], [*models, before.model]
    if runs:
        parts.append(distill.fixed(*runs))
    example = jnp.zeros((1, *dataset.shape))
    forms = {replicates.default_form(model, example) for model in models}
    return Ensemble(_together(parts), "single" if "single" in forms else "looped")


def check(lessons: Lessons, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuse teachers that are not there, or were trained on other classes or other data.

    Raises:
      UserError: says which teacher, and why.
    """
    for name in lessons.teachers:
        if name == BEFORE:
            continue
        folder, _ = _place(lessons, name)
        trained.check_data(folder, config["data"], "distill.teachers", apart=True)
        _load(lessons, name, dataset)


def _load(lessons: Lessons, name: str, dataset: AnyDataset) -> tuple[Model, Variables]:
    """A run's network and its variables [K, …]."""
    folder, unit = _place(lessons, name)
    config = identity.read_about(folder)["config"]
    model = architectures.build(config, dataset.classes)
    variables = trained.load(folder, unit)
    shapes = architectures.shapes(model, dataset.shape)
    count = trees.replicates(variables)
    return model, trained.replicated(variables, shapes, count, f"{folder}:{unit}")


def _place(lessons: Lessons, name: str) -> tuple[Path, str]:
    folder, colon, unit = name.partition(":")
    return Path(folder), unit if colon else lessons.unit


def _together(teachers: Sequence[Teacher]) -> Teacher:
    if len(teachers) == 1:
        return teachers[0]
    return lambda variables, inputs: jnp.concatenate([t(variables, inputs) for t in teachers])
