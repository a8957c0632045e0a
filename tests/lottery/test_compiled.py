"""A ticket as a function of inputs, beside its network under its mask."""

import jax
import numpy as np
import pytest

from groundwork import architectures, trees
from groundwork.errors import UserError
from lottery import tickets
from lottery.tickets import Ticket

X = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("f4")


def made(replicates=2, density=0.1):
    """A ticket of a small network, whose trained weights are not masked, and the network."""
    model = architectures.build({"name": "lenet_300_100", "width": 0.3}, 10)
    several = [model.init(jax.random.key(r), X) for r in range(replicates)]
    variables = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    random = np.random.default_rng(1)
    kernels = {f"{layer}/kernel": leaf["kernel"] for layer, leaf in variables["params"].items()}
    mask = {path: random.random(leaf.shape) < density for path, leaf in kernels.items()}
    return Ticket(mask, variables, variables), model


@pytest.mark.parametrize("replicate", [0, 1])
def test_a_compiled_ticket_is_its_network_under_its_mask(replicate):
    ticket, model = made()
    run = tickets.compile(ticket, model, replicate=replicate)
    variables = trees.replicate(ticket.trained, replicate)
    params = {
        layer: {**leaf, "kernel": leaf["kernel"] * ticket.mask[f"{layer}/kernel"][replicate]}
        for layer, leaf in variables["params"].items()
    }
    for x in (X, X[:1]):
        expected = model.apply({"params": params}, x)
        np.testing.assert_allclose(run(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_an_example_compiles_at_once():
    calls = []
    ticket, model = made()

    def apply(variables, x):
        calls.append(x.shape)
        return model.apply(variables, x)

    run = tickets.compile(ticket, apply, X)
    assert calls == [X.shape]
    run(X)
    assert calls == [X.shape]


def test_what_cannot_be_compiled_is_refused():
    ticket, model = made()
    with pytest.raises(UserError, match="give model="):
        tickets.compile(ticket)
    with pytest.raises(UserError, match="replicate=2: the ticket has 2"):
        tickets.compile(ticket, model, replicate=2)


@pytest.mark.slow
def test_a_ticket_of_a_run_knows_its_network(finished):
    ticket = tickets.load(finished[0], 2)
    model = architectures.build({"name": "lenet_300_100", "width": 0.1}, 10)
    run = tickets.compile(ticket, replicate=1)
    expected = model.apply(trees.replicate(ticket.trained, 1), X)
    np.testing.assert_allclose(run(X), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(UserError, match="not those of its run's network for inputs"):
        tickets.compile(ticket)(X[:, :5])
    assert len(ticket) == 3
    mapped = jax.tree.map(np.asarray, ticket)
    with pytest.raises(UserError, match="give model="):
        tickets.compile(mapped)
