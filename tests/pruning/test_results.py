"""A finished run read back in another process: a pruned network is called again."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.runs.run import Run
from pruning import results
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def brought(finished):
    config = results.read(finished[0]).config
    dataset = data_lib.load(config)
    return finished[0], architectures.build(config, dataset.classes), dataset


@pytest.mark.parametrize(("unit", "replicate"), [("pruned/0.5", 1), ("scratch_e/0.5", 0)])
def test_a_loaded_network_is_as_accurate_as_the_run_says(brought, unit, replicate):
    folder, model, dataset = brought
    network, variables = results.load_network(
        folder, unit, model, dataset.example, replicate=replicate
    )
    inputs = data_lib.normalize(dataset, jnp.asarray(dataset.test.inputs))
    keep, _ = Run(folder).unit("plans/0.5/1").result()
    for name, units in network.keep.items():
        np.testing.assert_array_equal(units, keep[name][replicate])
    right = np.asarray(network.apply(variables, inputs)).argmax(-1) == dataset.test.labels
    (pruned,) = results.read(folder).pruned
    said = pruned.network if unit == "pruned/0.5" else pruned.branches["scratch_e"]
    assert right.mean() == pytest.approx(said.test[replicate], abs=1e-6)


@pytest.mark.parametrize(
    ("unit", "width", "replicate", "said"),
    [
        ("pruned/0.75", 0.1, 0, r"no finished pruned/0\.75"),
        ("random_units/0.5", 0.1, 0, "random_units/0.5 has no plan"),
        ("original", 0.1, 0, "original has no plan"),
        ("pruned/0.5", 0.1, 2, "replicate=2 must be one of the run's 2"),
        ("pruned/0.5", 0.2, 0, "the model is not that of .*run: "),
    ],
)
def test_what_cannot_be_loaded_is_refused(brought, unit, width, replicate, said):
    folder, _, dataset = brought
    model = architectures.LeNet300100(classes=10, width=width)
    with pytest.raises(UserError, match=said):
        results.load_network(folder, unit, model, dataset.example, replicate=replicate)


def test_the_lines_that_read_a_pruned_network_run(brought):
    page = (ROOT / "pruning" / "README.md").read_text()
    (code,) = (part for part in page.split("```") if "load_network(" in part)
    names: dict[str, Any] = {}
    exec(code.removeprefix("python").replace("runs/pruning_digits", str(brought[0])), names)
    assert names["logits"].shape == (len(names["data"].test.labels), 10)
