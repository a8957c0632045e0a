"""python -m benchmarks.exits_on_text: do the characters of a text leave early, and what is saved?

A Transformer of `--layers` blocks has a head after each of them. All heads are trained together on
Python's help texts, as `configs/lottery/text_pydoc.py` has them, one replicate. Thresholds that
spend shares of the last exit's multiply-adds on the validation split are then used on the test
split: every character has the first confident exit's answer, and a window is computed until its
last character has left (`msdnet.tokens`), which costs more than if each character left alone.
"""

import argparse
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import msdnet
from benchmarks import setting
from configs.lottery import text_pydoc
from groundwork import architectures, terminal
from groundwork.data import dataset as data_lib
from groundwork.report import tables
from groundwork.train.step import Batch
from groundwork.trees import Variables
from msdnet import exits, objective

SHARES = (0.4, 0.5, 0.6, 0.7, 0.8)  # of the last exit's multiply-adds
BATCH = 32  # windows


def network(config: dict[str, Any], layers: int, classes: int) -> Any:
    """Returns a config's Transformer with a head after each of its blocks but the last."""
    section = config["model"]
    section = {**section, "kwargs": {**section["kwargs"], "layers": layers}}
    whole = architectures.build({"model": section}, classes)
    places = [f"block{number}/fc2" for number in range(1, layers)]
    return msdnet.heads.attach(whole, places, classes)


def train(model: Any, inputs: jax.Array, labels: jax.Array, steps: int) -> Variables:
    """Returns variables after `steps` of Adam on windows that are drawn at random."""
    variables = model.init(jax.random.key(0), inputs[:1])
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, min(50, steps // 2), steps)
    optimizer = optax.adam(schedule)
    loss_fn = objective.make_loss(model, (1.0,) * model.exits)

    def step(state: Any, key: jax.Array) -> Any:
        params, opt_state = state
        drawn = jax.random.randint(key, (BATCH,), 0, len(inputs))
        batch = Batch(inputs[drawn], labels[drawn], jnp.ones(BATCH, bool))
        gradient = jax.grad(lambda p: loss_fn(key, {"params": p}, batch)[0])(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    params = variables["params"]
    many = jax.jit(lambda state, keys: lax.scan(step, state, keys)[0])
    keys = jax.random.split(jax.random.key(1), steps)
    return {"params": many((params, optimizer.init(params)), keys)[0]}


def judged(model: Any, variables: Variables, split: Any) -> tuple[np.ndarray, ...]:
    """Returns confidences, hits and bits of all characters of a split, each [N × L, K]."""

    @jax.jit
    def one(inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
        logits = jnp.stack(model.apply(variables, inputs), -2)  # [B, L, K, C]
        logs = jax.nn.log_softmax(logits)
        bits = -jnp.take_along_axis(logs, labels[..., None, None], -1)[..., 0] / math.log(2)
        return jnp.exp(logs.max(-1)), logits.argmax(-1) == labels[..., None], bits

    found = [
        one(split.inputs[at : at + BATCH], split.labels[at : at + BATCH])
        for at in range(0, len(split.inputs), BATCH)
    ]
    flat = [[part.reshape(-1, model.exits) for part in parts] for parts in zip(*found, strict=True)]
    return tuple(map(np.concatenate, flat))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--layers", type=int, default=4, help="blocks of the Transformer")
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    flags = parser.parse_args()
    begun, load = time.perf_counter(), setting.load()
    config = text_pydoc.get_config().to_dict()
    dataset: Any = data_lib.load(config)
    model = network(config, flags.layers, dataset.classes)
    variables = train(
        model, jnp.asarray(dataset.train.inputs), jnp.asarray(dataset.train.labels), flags.steps
    )
    window = jax.ShapeDtypeStruct((1, dataset.shape[0]), jnp.int32)
    macs = np.array([cost.macs_cumulative for cost in msdnet.costs(model, window)])
    _, hits, bits = judged(model, variables, dataset.test)
    rows: list[list[Any]] = []
    for k, share in enumerate(macs / macs[-1]):
        ends = [f"{hits[:, k].mean():.4f}", f"{bits[:, k].mean():.3f}"]
        rows.append([f"exit {k + 1}, all", f"{share:.2f}", f"{share:.2f}", *ends])
    confidences = judged(model, variables, dataset.validation)[0]
    for share in SHARES:
        if share * macs[-1] < macs[0]:
            continue
        chosen = exits.thresholds(confidences, macs, share * macs[-1])
        found = msdnet.tokens.predict(model, variables, dataset.test.inputs, chosen)
        alone, together = macs[found.exits].mean(), macs[found.blocks - 1].mean()
        spent = [f"{each / macs[-1]:.2f}" for each in (alone, together)]
        accuracy = (found.labels == dataset.test.labels).mean()
        rows.append([f"{share:.0%} of multiply-adds", *spent, f"{accuracy:.4f}", ""])
    header = ["", "alone", "windows", "accuracy", "bits per character"]
    title = f"{dataset.test.labels.size:,} characters; shares of {macs[-1]:,} multiply-adds"
    tables.show(title, (header, rows), keys=1)
    terminal.say(
        f"machine: {setting.machine()}; {load}; {time.perf_counter() - begun:.0f} s in all"
    )


if __name__ == "__main__":
    main()
