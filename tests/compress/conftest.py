"""Pipelines of small networks, and trainings that do nothing."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from compress import fit, spec, work
from compress.made import Pipeline
from groundwork import architectures, study
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.runs.run import Run
from groundwork.train import networks
from tests.compress import small


@pytest.fixture
def pipeline(tmp_path) -> Callable[..., Pipeline]:
    """Makes one of a config's sections, which are checked: two replicates on two devices."""

    def build(model: str = "lenet_300_100", width: float = 0.05, **sections) -> Pipeline:
        named = {"name": model, "width": width, "dtype": "float32"}
        config = small.config(model=named, replicates=2, **sections)
        checked, dataset = spec.from_config(config), data_lib.load(config)
        work.prepare(checked, config, dataset)
        mesh = mesh_lib.make(2, 100, replicate=2, data=1)
        context = study.make_context(checked, dataset, mesh, Run(tmp_path), None, Interruption())
        return Pipeline(
            context=context,
            spec=checked,
            model=architectures.build(config, dataset.classes),
            compiled=fit.compiler(context),
        )

    return build


@pytest.fixture
def untrained(monkeypatch) -> list[SimpleNamespace]:
    """Every training gives back what it was given, and nothing is compiled; what it was given."""
    seen = []

    def compiled(recipe):
        def start(variables, mask):
            seen.append(SimpleNamespace(recipe=recipe, variables=variables, mask=mask))
            return variables

        return fit.Compiled(recipe, start)

    def train(context, recipe, unit, steps, variables, parameters):
        assert (recipe, steps) == (seen[-1].recipe, recipe.steps.steps)
        seen[-1].unit = unit.name
        seen[-1].parameters = parameters
        return variables

    monkeypatch.setattr(fit, "compiler", lambda context: compiled)
    monkeypatch.setattr(networks, "train", train)
    return seen
