"""Tiny problems whose scores can be computed by hand, in NumPy's float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning import masks
from pruning.criteria import Evidence

N, IN, HIDDEN, CLASSES = 10, 5, 4, 3
KEY = jax.random.key(3)


def drawn():
    """Parameters of a network of two layers, and examples, in float64."""
    rng = np.random.default_rng(0)
    params = {
        "one": {"kernel": rng.normal(size=(IN, HIDDEN)), "bias": rng.normal(size=HIDDEN)},
        "two": {"kernel": rng.normal(size=(HIDDEN, CLASSES))},
    }
    return params, (rng.normal(size=(N, IN)), rng.integers(CLASSES, size=N))


def apply(params, examples):
    hidden = jnp.tanh(examples[0] @ params["one"]["kernel"] + params["one"]["bias"][None])
    return hidden @ params["two"]["kernel"]


def output_loss(outputs, examples):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, examples[1]).mean()


def loss(params, examples):
    return output_loss(apply(params, examples), examples)


def evidence(**changed) -> Evidence:
    params, examples = jax.tree.map(_short, drawn())
    given = {
        "params": params,
        "mask": masks.ones(params),
        "key": KEY,
        "examples": examples,
        "loss": loss,
        "apply": apply,
        "output_loss": output_loss,
        "initial": jax.tree.map(lambda leaf: leaf[::-1], params),
        "movement": masks.flatten(params),
    }
    return Evidence(**{**given, **changed})


def numbers(scores) -> np.ndarray:
    """All scores as one vector, by path."""
    return np.concatenate([np.asarray(scores[path], np.float64).ravel() for path in sorted(scores)])


def logits(params, inputs):
    """The network in NumPy."""
    hidden = np.tanh(inputs @ params["one"]["kernel"] + params["one"]["bias"])
    return hidden @ params["two"]["kernel"]


def mean_loss(vector, examples, temperature=1.0):
    """The mean loss of a vector of all kernels, in NumPy."""
    params, (inputs, labels) = drawn()[0], examples
    split = IN * HIDDEN
    params["one"]["kernel"] = vector[:split].reshape(IN, HIDDEN)
    params["two"]["kernel"] = vector[split:].reshape(HIDDEN, CLASSES)
    outputs = logits(params, inputs) / temperature
    shifted = outputs - outputs.max(1, keepdims=True)
    return np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels])


def differences(function, at, by=1e-5):
    """Central differences of a function of a vector, along a new first axis."""
    rows = np.eye(len(at)) * by
    return np.stack([(function(at + row) - function(at - row)) / (2 * by) for row in rows])


def _short(leaf):
    return jnp.asarray(leaf, jnp.float32 if leaf.dtype == np.float64 else jnp.int32)
