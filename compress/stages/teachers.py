"""Who teaches a stage: runs that were trained before, and the network that the stage was given."""

# R replicates, K teachers

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
from compress.stages.stage_specs import BEFORE, DistillSpec
from groundwork import architectures
from groundwork.data.dataset import AnyDataset
from groundwork.runs import identity, trained
from groundwork.train.replicates import Form as Mapped
from groundwork.train.replicates import default_form
from groundwork.train.step import Model


class Ensemble(NamedTuple):
    """The teachers of a stage."""

    teacher: Teacher
    carried: tuple[Any, ...]  # variables [R, 1, …] of the network before, if it is one of them
    mapped: Mapped  # `single` where one of them needs it: see `groundwork.train.replicates`
    before: Form | None  # of the network before, if it is one of them


def ensemble(spec: DistillSpec, dataset: AnyDataset, before: Form, variables: Any) -> Ensemble:
    """The teachers that the config names.

    Args:
      spec: of the config.
      dataset: what is learnt.
      before: the network that the stage was given.
      variables: [R, …], its own.
    """
    runs = [_load(spec, name, dataset) for name in spec.teachers if name != BEFORE]
    parts, models = [], [model for model, _ in runs]
    carried: tuple[Any, ...] = ()
    if BEFORE in spec.teachers:
        own = form_lib.network(before)
        parts, models = [distill.carried(own)], [*models, before.model]
        carried = (jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], variables),)
    if runs:
        parts.append(distill.fixed(*runs))
    example = jnp.zeros((1, *dataset.shape))
    forms = {default_form(model, example) for model in models}
    form: Mapped = "single" if "single" in forms else "looped"
    return Ensemble(_together(parts), carried, form, before if carried else None)


def check(spec: DistillSpec, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuse teachers that there are not, or that were trained on other classes or other data.

    Raises:
      UserError: says which and why.
    """
    for name in spec.teachers:
        if name == BEFORE:
            continue
        folder, _ = _place(spec, name)
        trained.check_data(folder, config["data"], "distill.teachers", apart=True)
        _load(spec, name, dataset)


def _load(spec: DistillSpec, name: str, dataset: AnyDataset) -> tuple[Model, Any]:
    """A run's network and its variables [K, …]."""
    folder, unit = _place(spec, name)
    config = identity.read_about(folder)["config"]
    model = architectures.build(config, dataset.classes)
    found = trained.load(folder, unit)
    shapes = architectures.shapes(model, dataset.shape)
    count = len(jax.tree.leaves(found)[0])
    return model, trained.replicated(found, shapes, count, f"{folder}:{unit}")


def _place(spec: DistillSpec, name: str) -> tuple[Path, str]:
    folder, colon, unit = name.partition(":")
    return Path(folder), unit if colon else spec.unit


def _together(teachers: Sequence[Teacher]) -> Teacher:
    if len(teachers) == 1:
        return teachers[0]
    return lambda variables, inputs: jnp.concatenate([t(variables, inputs) for t in teachers])
