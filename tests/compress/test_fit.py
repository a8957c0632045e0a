"""Recipes: what tells networks' programs apart, and what training by one begins with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import fit
from compress.fit import Recipe
from compress.form import Form
from compress.stages import teachers
from compress.stages.latent import Quantizer
from groundwork import architectures
from tests.compress.small import GROUPS, config, drawn

PLAN = {"fc1": {"method": "svd", "rank": 2}}


@pytest.fixture
def recipe(pipeline):
    """Makes recipes whose parts are built anew each time; a `model` is a width."""
    spec = pipeline(stages=("factorize", "distill", "quantize"), factorize={"method": "svd"}).spec

    def make(width=0.05, steps=None, optimizer=None, quantized=None, taught=None, **form):
        model = architectures.build(config(model=_section(width)), 10)
        quantizer = quantized and Quantizer(**{"spec": spec.sections["quantize"], **quantized})
        lessons = dataclasses.replace(spec.sections["distill"], **(taught or {}).get("lessons", {}))
        before = Form(model, plan=(taught or {}).get("plan", {}))
        return Recipe(
            form=Form(model, **form),
            steps=dataclasses.replace(spec.train, **(steps or {})),
            optimizer=dataclasses.replace(spec.optimizer, **(optimizer or {})),
            quantizer=quantizer,
            taught=None if taught is None else teachers.taught(lessons, before),
        )

    return make


def _section(width):
    return {"name": "lenet_300_100", "width": width, "dtype": "float32"}


PLAIN = {"fc1/kernel": 4, "fc2/kernel": 4}
APART = {
    "plain": {},
    "another width": {"width": 0.1},
    "a plan": {"plan": PLAN},
    "another rank": {"plan": {"fc1": {"method": "svd", "rank": 3}}},
    "another layer": {"plan": {"fc2": {"method": "svd", "rank": 2}}},
    "tied layers": {"groups": GROUPS},
    "inputs of 8 bits": {"activations": {"fc1": 8}},
    "inputs of 7 bits": {"activations": {"fc1": 7}},
    "gradients of 8 bits": {"gradients": {"fc1": 8}},
    "other steps": {"steps": {"steps": 7}},
    "other batches": {"steps": {"batch_size": 10}},
    "another rate": {"optimizer": {"learning_rate": 0.5}},
    "another optimiser": {"optimizer": {"name": "sgd"}},
    "weights of 4 bits": {"quantized": {"bits": PLAIN}},
    "weights of 3 bits": {"quantized": {"bits": {**PLAIN, "fc1/kernel": 3}}},
    "one layer of 4 bits": {"quantized": {"bits": {"fc1/kernel": 4}}},
    "a teacher": {"taught": {}},
    "a teacher of another form": {"taught": {"plan": PLAN}},
    "a teacher of another rank": {"taught": {"plan": {"fc1": {"method": "svd", "rank": 3}}}},
    "a teacher heard less": {"taught": {"lessons": {"weight": 0.25}}},
    "a teacher and a run": {"taught": {"lessons": {"teachers": ("before", "runs/a")}}},
    "a run": {"taught": {"lessons": {"teachers": ("runs/a",)}}},
}


@pytest.fixture
def compiled(monkeypatch):
    """Compiles recipes by name alone; and what was compiled."""
    seen = []

    def compile_recipe(context, recipe):
        seen.append(recipe)
        return object()

    monkeypatch.setattr(fit, "compile_recipe", compile_recipe)
    return fit.compiler(None), seen


def test_equal_recipes_are_compiled_once_and_others_apart(recipe, compiled):
    programs, seen = compiled
    first = {name: programs(recipe(**parts)) for name, parts in APART.items()}
    assert len({id(one) for one in first.values()}) == len(seen) == len(APART)
    for name, parts in APART.items():
        assert programs(recipe(**parts)) is first[name], name
    assert len(seen) == len(APART)


def test_the_order_of_layers_is_no_difference(recipe, compiled):
    programs, _ = compiled
    paths = ("fc1", "fc2", "output")
    for key, values in (
        ("plan", dict.fromkeys(paths, PLAN["fc1"])),
        ("activations", dict.fromkeys(paths, 8)),
        ("quantized", {f"{path}/kernel": 4 for path in paths}),
    ):
        backwards = dict(reversed(values.items()))
        one, other = ({"bits": v} if key == "quantized" else v for v in (values, backwards))
        assert programs(recipe(**{key: one})) is programs(recipe(**{key: other}))


def test_a_network_without_a_teacher_before_does_not_ask_what_came_before(recipe, compiled):
    """All networks that the same runs teach are compiled once."""
    programs, _ = compiled
    lessons = {"teachers": ("runs/a",)}
    plain, factorised = (
        programs(recipe(taught={"lessons": lessons, "plan": plan})) for plan in ({}, PLAN)
    )
    assert plain is factorised


def test_what_a_recipe_says_is_trained(pipeline, recipe):
    """Signs are what the forward pass sees, and latent weights stay within 1."""
    own = pipeline()
    section = dataclasses.replace(own.spec.sections["quantize"], method="binary")
    signs = recipe(quantized={"spec": section, "bits": {"fc1/kernel": 1}})
    variables = {"params": jax.tree.map(lambda leaf: leaf[0], drawn(own)["params"])}
    inputs = jnp.ones((2, *own.context.dataset.shape))
    fc1 = variables["params"]["fc1"]
    size = np.abs(fc1["kernel"]).mean()
    stored = {**variables["params"], "fc1": {**fc1, "kernel": size * np.sign(fc1["kernel"])}}
    want = own.model.apply({"params": stored}, inputs)
    shown = signs.network.apply(variables, inputs, train=False)
    np.testing.assert_allclose(shown, want, rtol=1e-4, atol=1e-4)
    assert np.abs(want - own.model.apply(variables, inputs)).max() > 0.1
    for made, clipped in ((signs, True), (recipe(), False)):
        optimizer = optax.with_extra_args_support(made.make_optimizer())
        params = jax.tree.map(jnp.ones_like, variables["params"])
        gradients = jax.tree.map(lambda leaf: -leaf, params)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params, step=jnp.int32(0))
        moved = optax.apply_updates(params, updates)["fc1"]
        assert float(moved["bias"].min()) > 1
        assert (float(moved["kernel"].max()) == 1) == clipped


def test_training_begins_under_the_mask(pipeline):
    own = pipeline(stages=("prune",))
    variables = drawn(own)
    kernel = variables["params"]["fc1"]["kernel"]
    mask = {"fc1/kernel": kernel > 0}
    recipe = own.spec.as_original(Form(own.model))
    state = own.compiled(recipe).start(*own.context.put((variables, mask)))
    np.testing.assert_array_equal(state.variables["params"]["fc1"]["kernel"], np.maximum(kernel, 0))
    np.testing.assert_array_equal(state.opt_state.mask["fc1/kernel"], mask["fc1/kernel"])
    assert state.step.tolist() == [0, 0]
