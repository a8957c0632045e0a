"""python -m benchmarks.me_prop: gradients of which k entries go back (meProp), beside whole ones.

LeNet-300-100 on Fashion-MNIST, batch 128, Adam 1.2e-3; the output layer's gradient stays whole. The
k largest entries of a hidden layer's output gradient go back, of each example (`pruning.top_k`), or
the same k features of the whole batch (by the sum of |gradient|), whose columns are gathered, so
that both products of the backward pass are k columns wide. Source of the latter: Sun et al.,
arXiv:1711.06528, "unified top-k". All variants take turns in one process. The time of a
backward pass is that of loss and gradients less that of the loss alone; the table has medians, and
the same of the quickest turns, which other work on the machine disturbs least.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

from benchmarks import setting
from configs.lottery import lenet_fashion_mnist
from groundwork import architectures, terminal
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.report import tables
from groundwork.traced import override
from groundwork.traced.products import Layer
from pruning import top_k

BATCH, RATE = 128, 1.2e-3
HIDDEN = ("fc1", "fc2")


class Variant(NamedTuple):
    """A network's function, which differs in its gradients alone."""

    label: str
    apply: Callable[..., jax.Array]


def gathered(k: int) -> Callable[[Layer, jax.Array, jax.Array], jax.Array]:
    """Returns a product, of whose output gradient the k columns of largest sums go back."""

    @jax.custom_vjp
    def product(kernel: jax.Array, inputs: jax.Array) -> jax.Array:
        return inputs @ kernel

    def forward(kernel: jax.Array, inputs: jax.Array) -> tuple[jax.Array, Any]:
        return inputs @ kernel, (kernel, inputs)

    def backward(saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel, inputs = saved
        _, places = lax.top_k(jnp.sum(jnp.abs(gradient), 0), min(k, gradient.shape[1]))
        chosen = gradient[:, places]  # [B, k]
        of_kernel = jnp.zeros_like(kernel).at[:, places].set(inputs.T @ chosen)
        return of_kernel, chosen @ kernel[:, places].T

    product.defvjp(forward, backward)
    return lambda layer, kernel, inputs: product(kernel, inputs)


def variants(model: Any, counts: list[int]) -> list[Variant]:
    """Returns the network itself, and with gradients of k entries."""
    made = [Variant("whole gradients", model.apply)]
    for k in counts:
        made.append(Variant(f"k = {k} of each example", top_k.in_layers(model, k, HIDDEN)))
    for k in counts:
        layers = {path: override.Override(compute=gathered(k)) for path in HIDDEN}
        made.append(Variant(f"k = {k} of the batch, gathered", override.override(model, layers)))
    return made


class Data(NamedTuple):
    """Normalised images and labels, training and test."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]


def load(folder: str) -> tuple[Any, Data]:
    """Returns the shipped network, and the images."""
    shipped = lenet_fashion_mnist.get_config()
    shipped.data.update(source="idx", dir=folder, validation_examples=0)
    config = config_lib.resolve(shipped)
    dataset = data_lib.load(config)
    splits = [
        (data_lib.normalize(dataset, jnp.asarray(split.inputs)), jnp.asarray(split.labels))
        for split in (dataset.train, dataset.test)
    ]
    return architectures.build(config["model"], dataset.classes), Data(*splits)


def loss_of(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Returns (params, images, labels) → the mean loss."""

    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = apply({"params": params}, images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    return loss


def milliseconds(made: list[Variant], params: Any, data: Data, turns: int) -> list[list[float]]:
    """Returns, of each variant, milliseconds of the loss, the loss with gradients, and backward.

    They are medians; the fourth is the backward pass by the quickest turns.
    """
    images, labels = data.train[0][:BATCH], data.train[1][:BATCH]
    forms = [
        (jax.jit(loss_of(one.apply)), jax.jit(jax.value_and_grad(loss_of(one.apply))))
        for one in made
    ]
    for pair in forms:
        for form in pair:
            jax.block_until_ready(form(params, images, labels))
    taken: list[list[list[float]]] = [[[], []] for _ in made]
    for _ in range(turns):
        for pair, lists in zip(forms, taken, strict=True):
            for form, times in zip(pair, lists, strict=True):
                begun = time.perf_counter()
                for _ in range(10):
                    result = form(params, images, labels)
                jax.block_until_ready(result)
                times.append((time.perf_counter() - begun) * 100)
    rows = []
    for forward, both in taken:
        medians = [statistics.median(forward), statistics.median(both)]
        rows.append([*medians, medians[1] - medians[0], min(both) - min(forward)])
    return rows


def accuracies(one: Variant, model: Any, data: Data, epochs: int, seeds: int) -> list[float]:
    """Returns the test accuracy after so many epochs, of each seed."""
    optimizer, loss = optax.adam(RATE), loss_of(one.apply)
    examples = len(data.train[1])
    steps = examples // BATCH

    @jax.jit
    def epoch(params: Any, state: Any, order: jax.Array) -> tuple[Any, Any]:
        def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
            params, state = carry
            gradients = jax.grad(loss)(params, data.train[0][chosen], data.train[1][chosen])
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        return lax.scan(step, (params, state), order)[0]

    results = []
    for seed in range(seeds):
        params = model.init(jax.random.key(seed), data.train[0][:1])["params"]
        state, rng = optimizer.init(params), np.random.default_rng(seed)
        for _ in range(epochs):
            order = rng.permutation(examples)[: steps * BATCH].reshape(steps, BATCH)
            params, state = epoch(params, state, jnp.asarray(order))
        logits = model.apply({"params": params}, data.test[0])
        results.append(float(jnp.mean(jnp.argmax(logits, -1) == data.test[1])))
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", default=setting.FASHION_MNIST, help="folder of the IDX files")
    parser.add_argument("--turns", type=int, default=30, help="of ten steps, of each variant")
    parser.add_argument("--epochs", type=int, default=3, help="of training; 0: no accuracy")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant")
    parser.add_argument(
        "--k", type=int, nargs="+", default=[10, 30, 80], help="entries that go back"
    )
    flags = parser.parse_args()
    load_before = setting.load()
    with setting.fashion_mnist(flags.data_dir) as (folder, words):
        model, data = load(folder)
        params = model.init(jax.random.key(0), data.train[0][:1])["params"]
        made = variants(model, flags.k)
        timed = milliseconds(made, params, data, flags.turns)
        rows = []
        for one, times in zip(made, timed, strict=True):
            row = [one.label, *(f"{time:.2f}" for time in times), f"{times[3] / timed[0][3]:.2f}"]
            if flags.epochs:
                right = accuracies(one, model, data, flags.epochs, flags.seeds)
                row.append(tables.plus_minus(right))
            rows.append(row)
    header = ["", "loss, ms", "with gradients, ms", "backward, ms", "quickest, ms", "× whole"]
    header += ["accuracy"] if flags.epochs else []
    tables.show(f"LeNet-300-100, batch {BATCH}; {flags.epochs} epochs", (header, rows))
    for line in (
        f"data: {words}",
        f"machine: {setting.machine()}; {load_before}",
        f"medians of {flags.turns} interleaved turns of ten steps; accuracy on test, mean and "
        f"spread of {flags.seeds} seeds",
    ):
        terminal.say(line)


if __name__ == "__main__":
    main()
