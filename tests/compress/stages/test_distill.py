"""What a student keeps of the network before, who teaches it, and whom it teaches."""

import itertools
import zlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from compress import hints, mutual, spec
from compress.stages import distill
from groundwork import architectures
from groundwork.errors import UserError
from groundwork.train import networks
from groundwork.train.loss_spec import LossSpec
from tests.compress.small import config, dense, node, pruned

NARROW = {"name": "lenet_300_100", "width": 0.02}
MIDDLE = {"name": "lenet_300_100", "width": 0.03}
HINTS = (("fc2", "output"),)


@pytest.fixture
def starts(monkeypatch):
    """Initial values by numpy, which compiles nothing: those of a stream are always the same."""

    def initial(context, model, stream="init"):
        rng = np.random.default_rng(zlib.crc32(stream.encode()))
        shapes = architectures.shapes(model, context.dataset.example)
        return jax.tree.map(lambda s: rng.normal(size=(2, *s.shape)).astype("f4"), shapes)

    monkeypatch.setattr(networks, "initial", initial)


def test_a_kept_student_stays_pruned(untrained, pipeline):
    own = pipeline(stages=("distill",), distill={"init": "keep"})
    before = pruned(own, "fc1/kernel")
    made = distill.run(own, node("distill"), before)
    assert made.mask is before.mask
    jax.tree.map(np.testing.assert_array_equal, untrained[0].mask, before.mask)


@pytest.mark.parametrize(
    ("name", "shape"), [("mean_squared_error", (1,)), ("cross_entropy", (1, 6))]
)
def test_losses_without_one_label_for_each_example_are_refused(name, shape):
    spec = SimpleNamespace(loss=LossSpec(name))
    dataset = SimpleNamespace(target=jax.ShapeDtypeStruct(shape, "int32"))
    with pytest.raises(UserError, match=f"one label for each example, not loss={name}"):
        distill.check_loss(spec, dataset)


def test_a_chain_is_taught_link_by_link_beside_its_controls():
    rules = {"assistants": (MIDDLE, MIDDLE), "model": NARROW, "controls": ("direct", "alone")}
    checked = spec.from_config(config(stages=("distill", "quantize"), distill=rules))
    parents = {node.name: node.parent for node in spec.nodes(checked)}
    assert list(parents.items()) == [
        ("original", ""),
        ("distill-assistant-1", "original"),
        ("distill-assistant-2", "distill-assistant-1"),
        ("distill", "distill-assistant-2"),
        ("distill-direct", "original"),
        ("distill-alone", "original"),
        ("distill+quantize-3", "distill"),
        ("distill+quantize-4", "distill"),
    ]


def test_who_is_taught_and_by_whom(untrained, starts, pipeline):
    rules = {"assistants": (MIDDLE,), "model": NARROW, "controls": ("direct", "alone")}
    own = pipeline(stages=("distill",), distill=rules)
    before = dense(own)
    made = {one.name: distill.run(own, one, before) for one in spec.nodes(own.spec)[1:]}
    widths = {name: network.form.model.width for name, network in made.items()}
    assert widths == {
        "distill-assistant-1": 0.03,
        "distill": 0.02,
        "distill-direct": 0.02,
        "distill-alone": 0.02,
    }
    *taught, alone = untrained
    assert all(training.recipe.taught.before == before.form for training in taught)
    assert alone.recipe.taught is None
    assert alone.variables.keys() == {"params"}
    for one, other in itertools.pairwise(untrained[1:]):  # from the same start
        jax.tree.map(
            np.testing.assert_array_equal, one.variables["params"], other.variables["params"]
        )


def test_students_that_teach_each_other_begin_differently_and_all_remain(
    untrained, starts, pipeline
):
    own = pipeline(stages=("distill",), distill={"mutual": 3})
    first, *others = spec.nodes(own.spec)[1:]
    assert [one.name for one in others] == ["distill-peer-2", "distill-peer-3"]
    made = distill.run(own, first, dense(own))
    (training,) = untrained
    assert training.recipe.students == 3
    assert training.recipe.taught is None
    one, two, three = (mutual.student(training.variables, n) for n in range(3))
    kernels = [tree["params"]["fc1"]["kernel"] for tree in (one, two, three)]
    for some, other in itertools.combinations(kernels, 2):
        assert np.mean(some == other) < 0.01
    jax.tree.map(np.testing.assert_array_equal, (made.variables, made.peers["3"]), (one, three))
    assert training.parameters == [sum(leaf[0].size for leaf in jax.tree.leaves(one))] * 2
    own.context.run.unit(first.unit).finish({"peers": dict(made.peers)}, {})
    second = distill.run(own, others[0], made)
    jax.tree.map(np.testing.assert_array_equal, second.variables, two)
    assert not second.peers


def test_hints_stand_beside_teaching_and_their_regressors_do_not_remain(
    untrained, starts, pipeline
):
    rules = {"hints": HINTS, "hint_weight": 2.0, "controls": ("direct",)}
    own = pipeline(stages=("distill",), distill=rules)
    before = dense(own)
    made, _ = (distill.run(own, one, before) for one in spec.nodes(own.spec)[1:])
    training, control = untrained
    assert control.recipe.hinted is None
    assert control.recipe.taught == training.recipe.taught
    given = training.recipe.hinted
    assert given == (HINTS, before.form, 2.0, False)
    assert training.recipe.taught.before == before.form
    regressor = training.variables["params"][hints.REGRESSORS]["0"]
    assert regressor["kernel"].shape == (2, 15, 5)  # units of fc1 of the one, of fc2 of the other
    assert made.variables.keys() == {"params"}
    assert made.variables["params"].keys() == before.variables["params"].keys()
    assert (
        training.parameters == [sum(leaf[0].size for leaf in jax.tree.leaves(made.variables))] * 2
    )


def test_a_student_of_two_stages_begins_where_its_hints_ended(untrained, pipeline):
    own = pipeline(stages=("distill",), distill={"hints": HINTS, "hint_steps": 7, "init": "keep"})
    before = pruned(own, "fc1/kernel")
    first, second = spec.nodes(own.spec)[1:]
    assert (first.name, second.name, second.parent) == ("distill-hint", "distill", "original")
    made = distill.run(own, first, before)
    ends = jax.tree.map(lambda leaf: leaf + 1, made.variables)
    own.context.run.unit(first.unit).finish({"variables": ends}, {})
    distill.run(own, second, before)
    one, other = untrained
    assert (one.recipe.steps.steps, one.recipe.hinted.alone, one.recipe.hinted.weight) == (
        7,
        True,
        1,
    )
    assert other.recipe.hinted is None
    assert other.recipe.steps == own.spec.train
    jax.tree.map(np.testing.assert_array_equal, other.variables["params"], ends["params"])
    for training in untrained:
        jax.tree.map(np.testing.assert_array_equal, training.mask, before.mask)


def test_hints_of_layers_that_are_not_there_are_refused_before_anything_is_trained(pipeline):
    with pytest.raises(UserError, match=r"^distill\.hints: unknown layer of the teacher 'fc9'"):
        pipeline(stages=("distill",), distill={"hints": (("fc2", "fc9"),)})


REFUSED = {
    "assistants without a student": ({"assistants": (MIDDLE,)}, "set distill.model"),
    "assistants of runs": (
        {"assistants": (MIDDLE,), "model": NARROW, "teachers": ("runs/a",)},
        "name 'before' in distill.teachers",
    ),
    "assistants by name": ({"assistants": ("lenet_5",)}, "must be model sections"),
    "another control": ({"controls": ("none",)}, "known: alone, direct"),
    "controls twice": ({"controls": ("alone", "alone")}, "each control once"),
    "direct without assistants": ({"controls": ("direct",)}, "leave out 'direct'"),
    "one student": ({"mutual": 1}, "2 students or more"),
    "equal students": ({"mutual": 2, "init": "keep"}, "begin differently"),
    "students with hints": ({"mutual": 2, "hints": HINTS}, "leave distill.assistants and"),
    "one layer": ({"hints": (("fc2",),)}, "must be pairs of layers"),
    "layers without pairs": ({"hints": ("fc2", "fc2")}, "must be pairs of layers"),
    "hints of runs": ({"hints": HINTS, "teachers": ("runs/a",)}, "name 'before'"),
    "hints in a chain": (
        {"hints": HINTS, "assistants": (MIDDLE,), "model": NARROW},
        "leave distill.assistants empty",
    ),
    "steps of hints": ({"hints": HINTS, "hint_steps": -1}, "distill.hint_steps=-1"),
    "weight of hints": ({"hints": HINTS, "hint_weight": 0.0}, "must be positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taught_is_refused_in_one_line(case):
    rules, message = REFUSED[case]
    with pytest.raises(UserError) as refused:
        spec.from_config(config(stages=("distill",), distill=rules))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_that_change_nothing_are_said():
    def said(*given, **rules):
        resolved = config(stages=("distill",), distill=rules)
        keys = [f"distill.{key}" for key in given]
        return spec.without_effect(spec.from_config(resolved), resolved, keys)

    assert said("hint_steps", hint_steps=3) == [
        "distill.hint_steps has no effect: distill.hints is empty"
    ]
    (line,) = said("hint_weight", hints=HINTS, hint_steps=3)
    assert line.endswith("distill.hint_steps=3 learn by hints alone")
    (line,) = said("weight", "mutual", mutual=2)
    assert line == "distill.weight has no effect: distill.mutual=2 students teach each other"
    assert not said("weight", "hint_weight", hints=HINTS)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"hints": HINTS, "hint_steps": 30}, {"distill-hint": 30, "distill": 400}),
        ({"hints": (), "hint_steps": 30}, {"distill": 400}),
        ({"mutual": 3}, {"distill": 400, "distill-peer-2": 0, "distill-peer-3": 0}),
        ({"controls": ("alone",)}, {"original": 400, "distill-alone": 400}),
    ],
)
def test_the_steps_of_each_network_are_those_that_it_is_trained_for(rules, expected):
    checked = spec.from_config(config(stages=("distill",), distill=rules))
    units = {name: f"networks/{name}" for name in expected}
    assert set(units.values()) <= set(spec.unit_names(checked))
    assert {name: spec.steps(checked, unit) for name, unit in units.items()} == expected
