"""The additive costs against networks that are really changed."""

import json

import jax
import numpy as np
import pytest

from compress.form import Form
from compress.search import costs, settings
from compress.search.clocks import Call, clock
from compress.search.settings import AS_IT_IS, Setting
from groundwork import trees
from groundwork.errors import UserError
from groundwork.traced.macs import multiply_adds
from pruning.structured import Narrowed, cut

CONV, FC, OUTPUT = 9 * 4, 64 * 8, 8 * 3  # weights
MACS = 16 * CONV + FC + OUTPUT


def test_the_model_of_the_unchanged_network_is_what_it_costs(searched):
    one, form = searched.original, Form(searched.original.model)
    variables = jax.tree.map(np.asarray, one.replicates[0].variables)
    real = costs.whole(form, variables, one.dataset.example)
    assert searched.costs.of({}) == real
    assert real["parameters"] == CONV + 4 + FC + 8 + OUTPUT + 3
    assert real["multiply_adds"] == MACS
    # the images after the convolution, before ReLU and after it, are the most that is held
    assert real["memory_bytes"] == 4 * (real["parameters"] + 2 * 4 * 4 * 4)


def test_weights_that_go_and_lose_bits_cost_their_share(searched):
    plain = searched.costs.options("fc", AS_IT_IS, {})
    assert plain["parameters"] == plain["multiply_adds"] == FC
    assert plain["memory_bytes"] == 4 * FC
    assert 3 * FC < plain["bytes"] < 4 * FC  # signs and exponents are packed
    small = searched.costs.options("fc", Setting(density=0.2, bits=2), {})
    assert small["parameters"] == round(0.2 * FC)
    assert small["multiply_adds"] == FC
    assert small["memory_bytes"] == FC * 2 / 8
    low_rank = searched.costs.options("fc", Setting(method="svd_outputs", rank=2), {})
    assert low_rank["parameters"] == low_rank["multiply_adds"] == 2 * (64 + 8)
    assert low_rank["bytes"] == round(plain["bytes"] * 2 * (64 + 8) / FC)


def test_units_that_go_scale_the_layers_that_have_them(searched):
    choice, graph = {"conv": Setting(units=0.5)}, searched.original.found.graph
    keep = {"conv": np.array([True, False, True, False])}
    variables = jax.tree.map(np.asarray, searched.original.replicates[0].variables)
    small = cut(graph, variables, keep)
    narrow = Narrowed(graph=graph, keep=keep)
    example = trees.example(searched.original.dataset.example)
    model = searched.costs.of(choice)
    assert model["multiply_adds"] == multiply_adds(narrow.apply, small, example)
    assert model["parameters"] == trees.count(small["params"]) + 2  # biases are part of the rest
    assert (
        searched.costs.scale("fc", settings.units({"conv": choice["conv"], "fc": choice["conv"]}))
        == 0.25
    )


def test_coded_bytes_are_those_of_the_file(searched):
    """The model of a whole network is near the size of its file, which has one header."""
    from compress.search import change

    one, setting = searched.original.replicates[0], Setting(density=0.2, bits=2)
    params = jax.tree.map(np.asarray, one.variables["params"])
    params["fc"] = {**params["fc"], "kernel": change.stored_weights(one, "fc", setting, False)}
    form, example = Form(searched.original.model), searched.original.dataset.example
    real = costs.file_bytes(form, {"params": params}, example)
    model = searched.costs.of({"fc": setting})["bytes"]
    assert abs(real - model) < 0.04 * real
    assert real < searched.costs.of({})["bytes"] - 1500


def test_they_are_read_back_from_json(searched):
    saved = json.loads(json.dumps(searched.costs.to_json()))
    assert costs.Costs.from_json(saved, searched.space) == searched.costs


def test_milliseconds_are_those_of_a_clock(searched):
    def ticking(calls):
        return [float(sum(leaf.size for leaf in jax.tree.leaves(c.variables))) for c in calls]

    found = costs.table(searched.original, searched.space, ("milliseconds",), ticking)
    assert found.of({})["milliseconds"] == searched.costs.of({})["parameters"]
    low_rank = {"fc": Setting(method="svd_outputs", rank=2)}
    assert found.of(low_rank)["milliseconds"] == found.of({})["milliseconds"] - FC + 2 * 72
    with pytest.raises(ValueError, match="milliseconds need a clock"):
        costs.table(searched.original, searched.space, ("milliseconds",))
    with pytest.raises(ValueError, match="'joules' is none of bytes, "):
        costs.table(searched.original, searched.space, ("joules",))


def test_clocks_are_xla_or_an_engine_that_is_installed():
    (found,) = clock()([Call(lambda w, x: x @ w, np.ones((3, 2), "f4"), np.ones((1, 3), "f4"))])
    assert 0 < found < 1e3
    with pytest.raises(UserError, match=r"budget\.engine: no engine 'abacus': .* installed are"):
        clock("abacus")
