"""Who teaches a stage, and what a student hears."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from compress import distill
from compress.form import Form
from compress.stages import teachers
from compress.stages.stage import train
from groundwork import trees
from groundwork.data import dataset as data_lib
from groundwork.runs.run import Run
from groundwork.train import replicates
from groundwork.train.losses import CROSS_ENTROPY
from tests.compress import small
from tests.compress.small import dense, node


def test_each_replicate_is_taught_by_its_own(untrained, pipeline):
    own = pipeline(stages=("distill", "quantize"), distill={"during": ("quantize",)})
    before = dense(own)
    recipe, start = own.spec.fine_tuned(before.form), (before.variables, {})
    for stage in ("prune", "quantize"):
        train(own, node(stage, 1), recipe, start, before)
    alone, student = untrained
    assert alone.recipe == recipe
    assert alone.variables.keys() == {"params"}
    assert student.recipe.taught.before == before.form
    teacher = teachers.ensemble(student.recipe.taught, own.context.dataset).teacher
    inputs = data_lib.first_examples(own.context.dataset, 5)[0]
    for r in range(2):
        answers = teacher(trees.replicate(student.variables, r), inputs)
        one = trees.replicate(before.variables, r)
        np.testing.assert_allclose(answers[0], own.model.apply(one, inputs), rtol=1e-5)


def test_runs_teach_beside_the_network_before(pipeline, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    rules = {"teachers": ("before", f"{folder}", f"{folder}:networks/b"), "unit": "networks/a"}
    own = pipeline(stages=("distill",), distill=rules)
    before, lessons = dense(own), own.spec.sections["distill"]
    folder.mkdir()
    config = small.config(model={"name": "lenet_300_100", "width": 0.05, "dtype": "float32"})
    (folder / "config.json").write_text(json.dumps({"command": "compress", "config": config}))
    theirs = [jax.tree.map(lambda leaf, s=s: s * leaf, before.variables) for s in (0.5, -1)]
    for unit, variables in zip("ab", theirs, strict=True):
        Run(folder).unit(f"networks/{unit}").finish({"variables": variables}, {})
    monkeypatch.setattr(  # as if XLA computed convolutions of the network before, and of no run
        replicates, "default_form", lambda model, _: "single" if model is own.model else "looped"
    )
    taught = teachers.taught(lessons, before.form)
    ensemble = teachers.ensemble(taught, own.context.dataset)
    assert ensemble.mapped == "single"
    inputs = data_lib.first_examples(own.context.dataset, 5)[0]
    carried = trees.replicate(teachers.carried(lessons, before.variables), 1)
    given = ensemble.teacher(distill.carry({}, *carried), inputs)
    each = [(before.variables, 1), *((tree, r) for tree in theirs for r in (0, 1))]
    for answers, (tree, r) in zip(given, each, strict=True):
        want = own.model.apply(trees.replicate(tree, r), inputs)
        np.testing.assert_allclose(answers, want, rtol=1e-4, atol=1e-4)


def test_students_hear_their_teachers_as_the_config_says(pipeline, monkeypatch):
    rules = {"temperature": 2.5, "weight": 0.25, "mean": "geometric"}
    own = pipeline(stages=("distill",), distill=rules)
    seen = []
    monkeypatch.setattr(distill, "make_loss", lambda *_, **options: seen.append(options))
    form = Form(own.model)
    taught = teachers.taught(own.spec.sections["distill"], form)
    own.compiled(dataclasses.replace(own.spec.as_original(form), taught=taught))
    assert seen == [{**rules, "objective": CROSS_ENTROPY}]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("runs/a", ("runs/a", "networks/a")),
        ("runs/a:networks/b", ("runs/a", "networks/b")),
        ("s3://lab/a", ("s3://lab/a", "networks/a")),
        ("gs://lab/a:networks/b", ("gs://lab/a", "networks/b")),
    ],
)
def test_a_teacher_is_a_folder_or_an_address_and_perhaps_a_unit(name, place):
    assert teachers._place(SimpleNamespace(unit="networks/a"), name) == place
