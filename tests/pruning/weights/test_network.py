"""What is said of a network that is saved."""

import types

import numpy as np

from groundwork.train.losses import CROSS_ENTROPY
from pruning.weights import network
from pruning.weights.network import Network


def test_a_layer_that_is_empty_in_a_replicate_is_said():
    said = []
    reporter = types.SimpleNamespace(say=said.append, end=lambda text: None)
    unit = types.SimpleNamespace(finish=lambda tree, metadata: None)
    run = types.SimpleNamespace(unit=lambda name: unit)
    context = types.SimpleNamespace(run=run, reporter=reporter)
    experiment = types.SimpleNamespace(context=context, loss=CROSS_ENTROPY)
    mask = {"a": np.array([[True], [False]]), "b": np.array([[True, False], [False, True]])}
    judged = types.SimpleNamespace(metadata={}, tree={}, words="")
    network.save(experiment, "sparse/0.1", Network(mask, {}), {"test": [0.5, 0.6]}, {}, judged)
    assert said == ["warning: sparse/0.1: a is empty"]
