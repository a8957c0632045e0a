"""Parameters and multiply-adds of the networks that papers tabulate; nothing is computed."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from groundwork.architectures import MODELS, build, count
from groundwork.architectures.text import lstm
from groundwork.traced.macs import multiply_adds
from tests.groundwork.architectures.layer_tables import TABLES, text
from tests.groundwork.architectures.small import INPUT, PARAMETERS

DOCUMENT = Path(__file__).parents[3] / "docs/architectures.md"
MB = 2**18  # float32 numbers of a megabyte
PUBLISHED = {  # parameters and multiply-adds as papers print them, rounded; 0 = not, or another's
    "alexnet towers=2": (60e6, 0),
    "densenet_40": (1.0e6, 0),
    "densenet_bc_100": (0.8e6, 0),
    "efficientnet_b0": (5.3e6, 390e6),
    "efficientnet_b0 as b3": (12e6, 0),
    "efficientnet_lite0": (4.7e6, 0),
    "mobilenet_v1": (4.2e6, 569e6),
    "mobilenet_v1 quarter": (0, 41e6),
    "mobilenet_v1 shallow": (2.9e6, 307e6),
    "mobilenet_v2": (3.4e6, 300e6),
    "mobilenet_v2 wide": (0, 585e6),
    "nin_small": (0.97e6, 0),
    "resnet_18": (0, 1.8e9),
    "sep_net": (1.3e6, 0),
    "shufflenet_v1": (0, 137e6),
    "shufflenet_v1 groups=1": (0, 143e6),
    "shufflenet_v1 groups=2": (0, 140e6),
    "shufflenet_v1 groups=4": (0, 133e6),
    "shufflenet_v1 groups=8": (0, 137e6),
    "shufflenet_v2": (2.3e6, 146e6),
    "shufflenet_v2 half": (1.4e6, 41e6),
    "shufflenet_v2 double": (7.4e6, 591e6),
    "squeezedet": (7.9 * MB, 0),
    "squeezenet_1_0": (4.8 * MB, 0),
    "vgg_16_imagenet": (138e6, 0),
    "xception": (22_855_952, 0),
}


def test_every_network_is_pinned():
    tabled = {label.partition(" ")[0] for label in TABLES}
    assert tabled | PARAMETERS.keys() == MODELS.keys()


@pytest.mark.parametrize("label", PUBLISHED)
def test_counts_are_those_that_are_published(label):
    counts = TABLES[label].parameters, TABLES[label].multiply_adds
    for ours, theirs in zip(counts, PUBLISHED[label], strict=True):
        assert not theirs or ours == pytest.approx(theirs, rel=0.04)


def test_the_documents_table_has_these_counts():
    """Rows are named as here, or by a width, a setting or a number of groups after the name."""
    rows = [row.split("|")[1:-1] for row in DOCUMENT.read_text().splitlines() if "| `" in row]
    pinned = {f"{one.parameters:,}": one.multiply_adds for one in TABLES.values()}
    named = set()
    for name, _, parameters, work, _ in rows:
        named.add(name.split("`")[1])
        millions = float(work.strip().removesuffix(" M").replace(",", ""))
        assert millions == pytest.approx(pinned[parameters.strip()] / 1e6, rel=1e-3)
    assert named >= {label for label in TABLES if " " not in label and not label.endswith("_small")}


@pytest.mark.parametrize("label", TABLES)
def test_counts_are_those_of_the_papers_table_of_layers(label, monkeypatch):
    monkeypatch.setattr(lstm, "orthogonal", nn.initializers.zeros)  # its products are no layer's
    table, name = TABLES[label], label.partition(" ")[0]
    assert sum(layer.parameters for layer in table.layers) == table.parameters
    assert sum(layer.multiply_adds for layer in table.layers) == table.multiply_adds
    module, traced = build({"name": name, **table.section}, table.classes), []

    def initialized(inputs):  # one trace tells both
        logits, variables = module.init_with_output(jax.random.key(0), inputs)
        traced.append(variables["params"])
        return logits

    if name in ("lstm", "transformer"):
        example = jax.ShapeDtypeStruct((1, text.LENGTH), jnp.int32)
    else:
        shape = getattr(module, "image", INPUT.get(name))
        example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    assert multiply_adds(initialized, example) == table.multiply_adds
    assert count(traced[0]) == table.parameters
