"""Which weights a level takes, and what the others start from."""

import dataclasses

import jax
import numpy as np
import pytest

from compress.form import Form
from compress.made import Shaped
from compress.stages import prune, share
from groundwork import keys, trees
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.train.loss_spec import LossSpec
from tests.compress.small import GROUPS, dense, drawn, node, pruned


@pytest.mark.parametrize("prunable", [("*kernel",), ("*",), ("fc*kernel",)])
def test_a_level_takes_its_share_of_what_a_pruned_network_has_left(untrained, pipeline, prunable):
    rules = {"rewind": "none", "rate": 0.25, "prunable": prunable}
    own = pipeline(stages=("prune",), prune=rules)
    before = pruned(own, "fc1/kernel", "output/kernel")
    made = prune.run(own, node("prune", 1), before)
    for layer in ("fc1", "output"):
        paths = [f"{layer}/{leaf}" for leaf in ("kernel", "bias")]
        for r in range(2):
            were, are = (
                sum(int(np.sum(m.mask[p][r])) if p in m.mask else 0 for p in paths)
                for m in (before, made)
            )
            if prunable == ("*",):
                were += before.variables["params"][layer]["bias"][r].size
            if layer == "output" and prunable == ("fc*kernel",):
                assert are == were
            else:
                assert are == were - round(0.25 * were)
    jax.tree.map(np.testing.assert_array_equal, untrained[0].mask, made.mask)
    kept = made.mask["fc1/kernel"]
    assert not (kept & ~before.mask["fc1/kernel"]).any()


def test_random_pruning_draws_anew_for_each_replicate_and_level(untrained, pipeline):
    rules = {"rewind": "none", "rate": 0.5, "criterion": "random", "levels": (1, 2)}
    own = pipeline(stages=("prune",), prune=rules)
    before = dense(own)
    masks = [prune.run(own, node("prune", k), before).mask["fc1/kernel"] for k in (1, 2)]
    assert (masks[0] != masks[1]).any()
    assert (masks[0][0] != masks[0][1]).any()


def test_linear_levels_count_from_all_weights(untrained, pipeline):
    rules = {"rewind": "none", "rate": 0.2, "schedule": "linear", "levels": (1, 2)}
    own = pipeline(stages=("prune",), prune=rules)
    made = dense(own)
    for level in (1, 2):
        made = prune.run(own, node("prune", level), made)
        kept = made.mask["fc1/kernel"]
        size = kept[0].size
        assert [int(np.sum(leaf)) for leaf in kept] == [size - round(0.2 * level * size)] * 2


def test_a_rewound_network_starts_from_its_initial_values_tied(untrained, pipeline):
    sections = {"share": {"groups": GROUPS}, "prune": {"levels": (1,)}}
    own = pipeline("residual_mlp", 0.128, stages=("share", "prune"), **sections)
    prune.run(own, node("prune", 1), share.run(own, node("share"), dense(own)))
    rewound = untrained[-1]
    assert rewound.recipe.form.groups == GROUPS
    first = jax.jit(own.model.init)
    for r in range(2):
        key = keys.stream(own.context.roots[r], "init")
        want = first(key, np.zeros((1, *own.context.dataset.shape), "f4"))["params"]
        for layer in ("fc1", "output"):
            kernel = np.asarray(rewound.variables["params"][layer]["kernel"][r])
            np.testing.assert_allclose(kernel, want[layer]["kernel"], rtol=1e-6)
    assert "fc2" not in rewound.variables["params"]
    assert sorted(rewound.mask) == ["fc1/kernel", "output/kernel"]


def test_each_layer_of_a_stack_keeps_its_own_count(pipeline):
    section = pipeline(stages=("prune",), prune={"rate": 0.25}).spec.sections["prune"]
    mask = {"blocks/kernel": np.ones((2, 3, 4, 4), bool), "out/kernel": np.ones((2, 8), bool)}
    mask["blocks/kernel"][:, :, 0, 0] = False
    plan, counts = prune.remaining(section, mask, 1, {"blocks": 1})
    assert plan.slices == {"blocks": 3, "out": 1}
    assert {name: count.tolist() for name, count in counts.items()} == {
        "blocks": [15 - 4] * 2,
        "out": [8 - 2] * 2,
    }
    mask["blocks/kernel"][1, 2, 1, 1] = False
    with pytest.raises(
        UserError, match=r"that blocks/kernel stacks keep \[14, 15\] weights: prune"
    ):
        prune.remaining(section, mask, 1, {"blocks": 1})


def test_all_weights_together_may_leave_unequal_slices_which_go_on(pipeline):
    rules = {"rate": 0.25, "scope": "global"}
    section = pipeline(stages=("prune",), prune=rules).spec.sections["prune"]
    mask = {"blocks/kernel": np.ones((2, 3, 4, 4), bool)}
    mask["blocks/kernel"][:, 2, 1, 1] = False
    plan, counts = prune.remaining(section, mask, 2, {"blocks": 1})
    assert set(plan.slices.values()) == {1}
    (count,) = counts.values()
    assert count.tolist() == [47 - round(0.25 * 47)] * 2


def test_criteria_of_a_training_before_are_refused(untrained, pipeline):
    with pytest.raises(UserError, match="movement looks at the training before, which compress"):
        pipeline(stages=("prune",), prune={"criterion": "movement"})


def test_a_criterion_is_checked_with_the_loss_of_the_run(pipeline):
    own = pipeline(stages=("prune",), prune={"rewind": "none", "criterion": "snip"})
    data, shapes = own.context.dataset, trees.replicate(drawn(own), 0)
    targets = np.zeros((len(data.train.labels), 10), np.float32)
    data = data._replace(train=data.train._replace(labels=targets))
    spec = dataclasses.replace(own.spec, loss=LossSpec("mean_squared_error"))
    prune.check(spec, Shaped(form=Form(own.model), shapes=shapes, dataset=data))


def test_a_criterion_looks_at_as_many_examples_as_the_config_says(untrained, pipeline):
    rules = {"rewind": "none", "rate": 0.5, "criterion": "wanda", "examples": 20, "levels": (1,)}
    own = pipeline(stages=("prune",), prune=rules)
    before = dense(own)
    made = prune.run(own, node("prune", 1), before)
    inputs = np.asarray(data_lib.first_examples(own.context.dataset, 20)[0]).reshape(20, -1)
    norms = np.sqrt(np.square(inputs.astype(np.float64)).sum(0))[:, None]
    for r in range(2):
        score = np.abs(before.variables["params"]["fc1"]["kernel"][r]) * norms
        kept = made.mask["fc1/kernel"][r]
        assert score[kept].min() >= score[~kept].max() * (1 - 1e-5)
