"""Networks written by hand, whose parts are known; nothing is compiled but one of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from groundwork.traced import cut as cut_lib

DRAW = np.random.default_rng(0)
PARAMS = {
    name: {"kernel": DRAW.normal(size=(3, 3)).astype(np.float32), "bias": np.ones(3, np.float32)}
    for name in ("one", "two", "three", "out")
}
VARIABLES = {"params": PARAMS}
INPUTS = DRAW.normal(size=(4, 3)).astype(np.float32)


def dense(params, name, x):
    return x @ params[name]["kernel"] + params[name]["bias"][None]


def chain(params, x):
    """Its second layer lies in a jitted function, and the third has the first's output added."""
    first = jax.nn.relu(dense(params, "one", x))
    second = jax.jit(lambda p, y: jnp.tanh(dense(p, "two", y)))(params, first)
    third = dense(params, "three", second) + first
    return dense(params, "out", jax.nn.relu(third))


def made(network, layers, **more):
    def apply(variables, key, inputs):
        return network(variables["params"], inputs, **more), ()

    return cut_lib.cut(apply, VARIABLES, None, INPUTS, layers)


def walked(cut, values=(INPUTS,), variables=VARIABLES):
    answers = []
    for k in range(len(cut.parts)):
        answer, values, _ = cut_lib.run(cut, k, variables, None, values)
        answers.append(answer)
    return answers


def test_parts_give_what_numpy_does_and_a_residual_is_handed_on():
    cut = made(chain, ("one", "two", "three"))
    answers = jax.jit(lambda values: walked(cut, values))((INPUTS,))

    def by_hand(name, x):
        return x @ PARAMS[name]["kernel"] + PARAMS[name]["bias"]

    first = np.maximum(by_hand("one", INPUTS), 0)
    second = np.tanh(by_hand("two", first))
    third = np.maximum(by_hand("three", second) + first, 0)
    for found, expected in zip(answers, (first, second, third, by_hand("out", third)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert [len(part.gives) for part in cut.parts] == [1, 2, 1, 0]
    assert [sorted(part.parameters) for part in cut.parts] == [
        [f"{name}/bias", f"{name}/kernel"] for name in PARAMS
    ]


def test_each_part_multiplies_once_and_takes_nothing_from_its_like():
    cut = made(chain, ("one", "two", "three"))
    for part in cut.parts:
        names = [cut.jaxpr.jaxpr.eqns[i].primitive.name for i in part.equations]
        assert names.count("dot_general") == 1
    assert {i for part in cut.parts for i in part.equations} == set(range(len(cut.jaxpr.eqns)))


def scanned(params, x):
    stack = {"kernel": jnp.stack([params[n]["kernel"] for n in ("one", "two")])}
    x, _ = lax.scan(lambda x, p: (jnp.tanh(x @ p["kernel"]), None), x, stack)
    return dense(params, "out", x)


def branching(params, x):
    x = lax.cond(
        x.sum() > 0, lambda: x @ params["one"]["kernel"], lambda: x * params["two"]["bias"][None]
    )
    return dense(params, "out", x)


def shared(params, x):
    return dense(params, "one", dense(params, "two", dense(params, "one", x)))


def twofold(params, x):
    x = dense(params, "one", x)
    return dense(params, "out", x * dense(params, "two", x))


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        (
            chain,
            ("on",),
            r"unknown layer 'on'; did you mean 'one'\? \(known: one, out, three, two\)",
        ),
        (chain, ("two", "one"), "layer 'one' comes before 'two': name it first"),
        (chain, ("out",), "layer 'out' gives the network's own output, which is an exit already"),
        (scanned, ("one",), "layer 'one' lies inside a scan, through which no cut goes"),
        (branching, ("two",), "layer 'two' lies inside a cond, through which no cut goes"),
        (shared, ("two", "three"), "layer 'three' is not met on the way to the network's output"),
        (shared, ("one",), "layer 'one': other layers come between its parameters"),
        (twofold, ("one", "two"), None),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(network, layers, message):
    if message is None:
        assert [len(part.gives) for part in made(network, layers).parts] == [1, 1, 0]
        return
    with pytest.raises(ValueError, match=message) as caught:
        made(network, layers)
    assert "\n" not in str(caught.value)


def test_two_layers_of_one_output_are_refused():
    def added(params, x):
        return dense(params, "out", dense(params, "one", x) + dense(params, "two", x))

    with pytest.raises(ValueError, match="'one' and 'two' give the same output: name one of them"):
        made(added, ("one", "two"))


def test_a_layer_that_gives_no_axis_of_examples_or_two_values_is_refused():
    def turned(params, x):
        return jnp.einsum("fb,fo->bo", params["one"]["kernel"].T @ x.T, params["out"]["kernel"])

    with pytest.raises(ValueError, match="layer 'one' gives no single value"):
        made(turned, ("one",))

    def split(params, x):
        x = dense(params, "one", x)
        return dense(params, "two", jnp.tanh(x) * x + x.sum())

    cut = made(split, ("one",))
    assert cut.parts[0].answer.aval.shape == (4, 3)  # before it branches


def test_random_numbers_are_drawn_again_where_they_are_needed_and_changes_stand_with_their_block():
    def apply(variables, key, inputs):
        params = variables["params"]
        kept = jax.random.bernoulli(key, 0.5, (4, 3))
        first = jnp.where(kept, dense(params, "one", inputs), 0)
        second = jnp.where(kept, dense(params, "two", first), 0)
        return dense(params, "out", second), (0.9 + first.mean(0), second.mean(0))

    key = jax.random.key(1)
    cut = cut_lib.cut(apply, VARIABLES, key, INPUTS, ("one", "two"))
    assert [list(part.aside) for part in cut.parts] == [[0], [1], []]
    assert [len(part.gives) for part in cut.parts] == [1, 1, 0]
