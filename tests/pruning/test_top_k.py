"""Gradients of which k entries go back, against backward passes written in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from pruning import top_k

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5)).astype(np.float32), RNG.normal(size=(6, 4)).astype(np.float32)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="out")(jnp.tanh(nn.Dense(7, name="hidden")(x)))


def largest(gradient, k):
    """The k largest of each row, the first of equal ones: a plain sort."""
    kept = np.zeros_like(gradient)
    for row, place in zip(gradient, kept, strict=True):
        chosen = sorted(range(len(row)), key=lambda i: -abs(row[i]))[:k]
        place[chosen] = row[chosen]
    return kept


def backward(params, hidden_k, out_k):
    """The gradients of Σ (network(X) − Y)² / 2, where k entries go back through each layer."""
    hidden, out = (
        {k: np.asarray(v) for k, v in params[name].items()} for name in ("hidden", "out")
    )
    h = np.tanh(X @ hidden["kernel"] + hidden["bias"])
    g = h @ out["kernel"] + out["bias"] - Y
    top = largest(g, out_k)
    dh = (top @ out["kernel"].T) * (1 - h**2)
    top_h = largest(dh, hidden_k)
    return {
        "hidden": {"kernel": X.T @ top_h, "bias": dh.sum(0)},
        "out": {"kernel": h.T @ top, "bias": g.sum(0)},
    }


@pytest.fixture(scope="module")
def variables():
    return Net().init(jax.random.key(0), X)


def gradients(apply, variables):
    loss = lambda params: ((apply({"params": params}, X) - Y) ** 2).sum() / 2  # noqa: E731
    return jax.jit(jax.value_and_grad(loss))(variables["params"])


@pytest.mark.parametrize(
    ("k", "layers", "hidden_k", "out_k"),
    [(2, None, 2, 2), (0.5, None, 4, 2), (5, None, 5, 4), (1, ["hidden"], 1, 4)],
)
def test_the_gradient_is_that_of_a_backward_pass_by_hand(variables, k, layers, hidden_k, out_k):
    value, made = gradients(top_k.in_layers(Net(), k, layers), variables)
    expected = backward(variables["params"], hidden_k, out_k)
    assert value == pytest.approx(gradients(Net().apply, variables)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), made, expected)
    zeros = (np.asarray(made["hidden"]["kernel"]) == 0).all(0)
    assert (zeros == (expected["hidden"]["kernel"] == 0).all(0)).all()


def back(gradient, k, axes=1):
    """What goes back behind a layer."""
    _, pull = jax.vjp(pruning.top_k_gradients(k, axes), jnp.zeros(gradient.shape))
    return np.asarray(pull(jnp.asarray(gradient))[0])


def test_of_equal_entries_exactly_k_go_back_the_first_ones():
    np.testing.assert_array_equal(back(np.ones((2, 5), np.float32), 2), [[1, 1, 0, 0, 0]] * 2)
    signs = np.array([[1, -2, 2, -2, 0]], np.float32)
    np.testing.assert_array_equal(back(signs, 2), [[0, -2, 2, 0, 0]])
    assert back(np.zeros((1, 5), np.float32), 2).tolist() == [[0] * 5]
    bad = np.array([[1, np.nan, 3, 2]], np.float32)
    np.testing.assert_array_equal(back(bad, 2), [[0, np.nan, 3, 0]])


def test_pixels_are_ranked_by_themselves_or_a_whole_image_together():
    gradient = RNG.normal(size=(2, 3, 3, 4)).astype(np.float32)
    by_pixel = largest(gradient.reshape(-1, 4), 1).reshape(gradient.shape)
    np.testing.assert_array_equal(back(gradient, 1), by_pixel)
    whole = largest(gradient.reshape(2, -1), 9).reshape(gradient.shape)
    np.testing.assert_array_equal(back(gradient, 0.25, axes=3), whole)


def test_replicates_are_mapped_and_convolutions_reached():
    class Images(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(3, (2, 2), padding="VALID", name="conv")(x))
            return nn.Dense(2, name="fc")(x.reshape((len(x), -1)))

    class ByHand(nn.Module):  # the same, with the function written into it
        @nn.compact
        def __call__(self, x):
            k = pruning.top_k_gradients(1)
            kernel = self.param("conv", nn.initializers.normal(), (2, 2, 1, 3))
            names = ("NHWC", "HWIO", "NHWC")
            x = k(jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=names))
            x = nn.relu(x).reshape((len(x), -1))
            return k(x @ self.param("fc", nn.initializers.normal(), (12, 2)))

    x = RNG.normal(size=(4, 3, 3, 1)).astype(np.float32)
    key = jax.random.split(jax.random.key(0), 2)
    variables = jax.vmap(lambda key: Images().init(key, x))(key)
    theirs = {"conv": variables["params"]["conv"]["kernel"]}
    theirs["fc"] = variables["params"]["fc"]["kernel"]
    apply = top_k.in_layers(Images(), 1)

    def grad(apply):
        loss = lambda params: (apply({"params": params}, x) ** 3).sum()  # noqa: E731
        return jax.jit(jax.vmap(jax.grad(loss)))

    ours, hand = grad(apply)(variables["params"]), grad(ByHand().apply)(theirs)
    for name, expected in hand.items():
        np.testing.assert_allclose(ours[name]["kernel"], expected, atol=1e-5)
    assert np.abs(hand["conv"]).sum() > 0


@pytest.mark.parametrize("k", [0, -1, 1.5, 0.0, True, "2", None])
def test_what_is_neither_a_number_nor_a_share_is_refused(k):
    with pytest.raises(ValueError, match=r"must be a number of entries from 1, or a share"):
        pruning.top_k_gradients(k)


def test_what_cannot_be_reached_is_refused(variables):
    with pytest.raises(ValueError, match=r"layer 'fc9'.*hidden"):
        top_k.in_layers(Net(), 1, ["fc9"])(variables, X)
    with pytest.raises(ValueError, match="have no 3 axes to rank"):
        pruning.top_k_gradients(1, axes=3)(X)

    def embeds(params, words):
        return params["words"]["kernel"][words] @ params["out"]["kernel"]

    params = {name: {"kernel": jnp.ones((4, 4))} for name in ("words", "out")}
    with pytest.raises(ValueError, match=r"'words/kernel' cannot be reached \(.*\): name the"):
        top_k.in_layers(embeds, 1)(params, jnp.arange(3))
    assert top_k.in_layers(embeds, 1, ["out"])(params, jnp.arange(3)).shape == (3, 4)
