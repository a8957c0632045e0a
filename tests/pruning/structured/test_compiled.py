"""A narrow network is no slower than one that was built as narrow: they compile to the same."""

import collections
import functools
import re

import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import architectures, trees
from pruning import structured
from tests.pruning.structured.zoo import quickly

OPERATION = re.compile(r"= \S+ ([a-z-]+)\(")


def compiled(model, variables, x):
    """How often the compiled call has each operation, and the bytes that it needs."""
    call = quickly(functools.partial(model.apply, train=False)).lower(variables, x).compile()
    memory = call.memory_analysis()
    return collections.Counter(OPERATION.findall(call.as_text())), memory.temp_size_in_bytes


@pytest.mark.parametrize(
    ("name", "width", "shape"), [("lenet_5", 0.2, (28, 28, 1)), ("vgg_11", 1 / 32, (16, 16, 3))]
)
def test_narrow_and_built_as_narrow_compile_to_the_same_operations(name, width, shape):
    whole, half = (
        architectures.build({"name": name, "width": share}, 10) for share in (width, width / 2)
    )
    shapes, x = architectures.shapes(whole, shape), jnp.zeros((2, *shape))
    graph = structured.groups(whole, shapes, shape)
    keep = {group.name: np.arange(group.units) % 2 == 0 for group in graph.groups}
    narrow, small = structured.narrow(graph, trees.zeros(shapes), keep)
    assert compiled(narrow, small, x) == compiled(half, small, x)
