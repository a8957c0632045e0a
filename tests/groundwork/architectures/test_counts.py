"""Parameters and multiply-adds of the networks that papers tabulate; nothing is computed."""

import jax
import jax.numpy as jnp
import pytest

from groundwork.architectures import MODELS, build, count
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures.layer_tables import TABLES
from tests.groundwork.architectures.small import PARAMETERS


def test_every_network_is_pinned_once():
    tabled = {label.partition(" ")[0] for label in TABLES}
    assert not tabled & PARAMETERS.keys()
    assert tabled | PARAMETERS.keys() == MODELS.keys()


@pytest.mark.parametrize("label", TABLES)
def test_counts_are_those_of_the_papers_table_of_layers(label):
    table, name = TABLES[label], label.partition(" ")[0]
    assert sum(layer.parameters for layer in table.layers) == table.parameters
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds
    module, traced = build({"name": name, **table.section}, table.classes), []

    def initialized(image):  # one trace tells both
        logits, variables = module.init_with_output(jax.random.key(0), image)
        traced.append(variables["params"])
        return logits

    image = jax.ShapeDtypeStruct((1, *module.image), jnp.float32)
    assert multiply_adds(initialized, image) == table.multiply_adds
    assert count(traced[0]) == table.parameters
