"""Measured increases of the loss against networks that are really changed."""

import dataclasses

import jax
import numpy as np
import pytest

from compress import archive
from compress import form as form_lib
from compress.form import Form
from compress.search import change, original, sensitivity, settings
from compress.search.evaluation import Measured
from compress.search.sensitivity import Sensitivities
from compress.search.settings import Setting
from groundwork import trees
from lowrank import factorization
from pruning import structured
from pruning.structured import Narrowed


def loss(searched, apply, variables):
    """The cross-entropy of the training examples, in float64."""
    data = searched.original.dataset
    inputs = (data.train.inputs / 255.0 - data.mean) / data.std
    logits = np.asarray(apply(variables, inputs.astype(np.float32)), np.float64)
    logits -= np.log(np.sum(np.exp(logits), 1, keepdims=True))
    return -np.mean(logits[np.arange(len(logits)), data.train.labels])


def increase(searched, really_changed):
    """By how much the loss grows when `really_changed` gives the networks of the replicates."""
    model, growth = searched.original.model, []
    for one in searched.original.replicates:
        before = loss(searched, model.apply, one.variables)
        growth.append(loss(searched, *really_changed(one)) - before)
    return np.mean(growth)


def test_of_fewer_and_rounded_weights_it_is_that_of_the_file(searched, tmp_path):
    setting = Setting(density=0.2, bits=2)

    def from_file(one):
        changed = change.changed(one, "fc", setting)
        stored = dict(changed["params"])
        stored["fc"] = {**stored["fc"], "kernel": change.stored_weights(one, "fc", setting)}
        archive.save(
            tmp_path / "0.cna", searched.original.model, {"params": stored}, None, (6, 6, 1)
        )
        apply, loaded = archive.load(tmp_path / "0.cna", searched.original.model)
        kernel = np.asarray(loaded["params"]["fc"]["kernel"])
        assert np.count_nonzero(kernel) == round(0.2 * kernel.size)
        assert len(np.unique(kernel)) == 2**2
        return apply, loaded

    found = searched.sensitivities.of("fc", setting).loss
    np.testing.assert_allclose(found, increase(searched, from_file), atol=1e-5)


def test_of_low_rank_it_is_that_of_the_factors(searched):
    (setting,) = [
        s
        for s in searched.space.options["fc"]
        if s == settings.setting({"method": "svd_outputs", "rank": 2})
    ]
    plan = settings.plan({"fc": setting})

    def factorised(one):
        layers = {"fc": searched.original.found.layers["fc"]}
        rows = factorization.rows(
            searched.original.model, one.variables, layers, searched.original.inputs
        )
        factors, _ = factorization.decompose(one.variables, plan, rows, one.key, layers)
        bias = change.changed(one, "fc", setting)["params"]["fc"]["bias"]
        factors["params"]["fc"] = {**factors["params"]["fc"], "bias": bias}
        return form_lib.apply_of(Form(searched.original.model, plan)), factors

    found = searched.sensitivities.of("fc", setting).loss
    np.testing.assert_allclose(found, increase(searched, factorised), atol=1e-5)


def test_of_fewer_units_it_is_that_of_the_narrow_network(searched):
    graph = searched.original.found.graph

    def narrow(one):
        scores = structured.scores(graph, one.variables, "l2")
        keep = structured.choose(graph, scores, {"*": 0.0, "conv": 0.5})
        solved, _ = structured.least_squares(graph, one.variables, keep, searched.original.inputs)
        return Narrowed(graph=graph, keep=keep).apply, structured.cut(graph, solved, keep)

    found = searched.sensitivities.of("conv", Setting(units=0.5)).loss
    np.testing.assert_allclose(found, increase(searched, narrow), atol=1e-5)


def test_of_rounded_inputs_it_is_that_of_their_form(searched):
    form = Form(searched.original.model)

    def rounded(one):
        grids = form_lib.calibrated(form, one.variables, searched.original.inputs, {"fc": 2})
        apply = form_lib.apply_of(form._replace(activations={"fc": 2}))
        return apply, {**one.variables, "activations": grids}

    found = searched.sensitivities.of("fc", Setting(activation_bits=2)).loss
    assert abs(found) > 1e-4
    np.testing.assert_allclose(found, increase(searched, rounded), atol=2e-6)


def test_biases_keep_the_mean_of_the_layers_outputs(searched):
    one = searched.original.replicates[1]
    setting = Setting(density=0.5, bits=2)
    conv = jax.tree.map(np.asarray, one.variables["params"]["conv"])
    images = np.asarray(searched.original.inputs, np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 3), (1, 2))
    changed = change.changed(one, "conv", setting)["params"]["conv"]
    means = [
        np.mean(windows.reshape(-1, 9) @ np.asarray(tree["kernel"]).reshape(9, 4), 0)
        + np.asarray(tree["bias"])
        for tree in (conv, changed)
    ]
    np.testing.assert_allclose(means[1], means[0], atol=1e-5)
    assert np.abs(np.asarray(changed["bias"]) - conv["bias"]).max() > 1e-3


def test_a_setting_that_was_not_measured_is_the_sum_of_its_parts(searched):
    found = searched.sensitivities
    units, weights = Setting(units=0.5), Setting(density=0.2, bits=2)
    both = dataclasses.replace(weights, units=0.5)
    assert both in searched.space.options["conv"]
    assert both not in found.rows["conv"]
    sums = [
        sum(pair) for pair in zip(found.of("conv", units), found.of("conv", weights), strict=True)
    ]
    assert [*found.of("conv", both)] == sums
    assert Sensitivities.from_json(found.to_json()) == found


def test_what_is_known_is_not_measured_again(searched, monkeypatch):
    monkeypatch.setattr(sensitivity, "evaluation", None)
    again = sensitivity.measure(searched.original, searched.space, 40, known=searched.sensitivities)
    assert again == searched.sensitivities


def test_pruned_weights_of_the_original_stay_pruned(searched):
    before = searched.original
    fc = before.variables["params"]["fc"]["kernel"]
    kept = np.abs(fc) > np.median(np.abs(fc))
    params = {**before.variables["params"]}
    biases = np.tile(np.arange(8) % 2 == 0, (2, 1))  # all of them are zero
    params["fc"] = {**params["fc"], "kernel": fc * kept}
    mask = {"fc/kernel": kept, "fc/bias": biases}
    pruned = original.of(Form(before.model), {"params": params}, mask, before.dataset)
    one = pruned.replicates[0]
    assert change.kept_weights(one, "fc", 0.7).sum() == kept[0].sum()
    fewer = change.kept_weights(one, "fc", 0.2)
    assert fewer.sum() == round(0.2 * kept[0].size)
    assert not np.any(fewer & ~kept[0])
    moved = np.asarray(change.changed(one, "fc", Setting(density=0.2))["params"]["fc"]["bias"])
    assert np.array_equal(moved != 0, biases[0])
    units = change.changed(one, "conv", Setting(units=0.5))
    assert not np.any(np.asarray(units["params"]["fc"]["kernel"])[~kept[0]])


def test_networks_of_other_forms_and_settings_are_refused(searched):
    one = searched.original
    form = Form(one.model, {"fc": {"method": "svd", "rank": 1}})
    with pytest.raises(ValueError, match="neither factorised, tied nor rounded"):
        original.of(form, one.variables, {}, one.dataset)
    with pytest.raises(ValueError, match=r"fc: .* one at a time"):
        change.changed(one.replicates[0], "fc", Setting(units=0.5, bits=2))
    assert Measured(2.0, 1.0) - Measured(0.5, 1.0) == (1.5, 0.0)
    assert trees.replicates(one.variables) == 2
