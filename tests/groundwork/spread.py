"""The same training on meshes of eight devices: `python -m tests.groundwork.spread` measures it.

A process of its own, since the tests' has four devices; the tests in test_parity.py read the JSON
that it prints.
"""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from benchmarks import communication
from groundwork import keys
from groundwork.data.dataset import Dataset, Split
from groundwork.devices import mesh
from groundwork.train import programs, step
from groundwork.train.losses import Counts
from groundwork.train.programs import Programs
from groundwork.train.step import NEVER, Batch, Tally, TrainState

REPLICATES, BATCH, RATE = 8, 16, 0.1
MESHES = ((2, 4), (4, 2), (1, 8), (8, 1))
DEFAULTS = (1, 2, 4, 8, 16)  # devices for three replicates


class Dense(nn.Module):
    """64 pixels to 4 classes through one hidden layer."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape((inputs.shape[0], -1))
        x = nn.relu(nn.Dense(9, param_dtype=self.param_dtype)(x))
        return nn.Dense(4, param_dtype=self.param_dtype)(x)


class Convolutional(nn.Module):
    """A convolution and BatchNorm between pixels and 4 classes."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs, train=False):
        own = {"param_dtype": self.param_dtype}
        across = "data" if train else None
        x = nn.Conv(5, (3, 3), 2, use_bias=False, **own)(inputs)
        x = nn.BatchNorm(use_running_average=not train, axis_name=across, **own)(x)
        return nn.Dense(4, **own)(nn.relu(x).mean((1, 2)))


MODELS = {"dense": Dense, "convolutional": Convolutional}


def dataset() -> Dataset:
    """Random images 8×8×1 in 4 classes."""
    rng = np.random.default_rng(0)

    def split(n):
        images = rng.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8)
        return Split(images, rng.integers(0, 4, n).astype(np.int32))

    moments = np.full((1, 1, 1, 1), 0.5, np.float32), np.full((1, 1, 1, 1), 0.25, np.float32)
    return Dataset("made", split(64), split(16), split(16), 4, *moments)


def initial(model: nn.Module, dtype: Any = np.float32) -> TrainState:
    """The state of eight replicates before the first step of plain SGD, on the host.

    No leaf is zero: what a step adds to a zero is a gradient or a mean, in which the rounding of
    its summands stands out, and a difference would be a share of that.
    """
    roots = keys.roots(3, REPLICATES)
    example = jnp.zeros((1, 8, 8, 1), dtype)
    variables = jax.device_get(jax.jit(jax.vmap(lambda key: model.init(key, example)))(roots))
    rng = np.random.default_rng(2)
    variables = jax.tree.map(
        lambda leaf: (leaf + rng.normal(0, 0.1, leaf.shape)).astype(dtype), variables
    )
    return TrainState(np.zeros(REPLICATES, np.int32), roots, variables, optax.sgd(RATE).init({}))


def on_mesh(model: nn.Module, rows: int, columns: int, replicates: int) -> tuple[Programs, Mesh]:
    """The real programs on the first rows × columns devices."""
    devices = mesh.make(replicates, BATCH, replicate=rows, data=columns, devices=jax.devices())
    return compiled_on(devices, model, BATCH), devices


def compiled_on(devices: Mesh, model: nn.Module, batch_size: int) -> Programs:
    return programs.make(model, optax.sgd(RATE), dataset(), devices, batch_size=batch_size)


def arguments(devices: Mesh, state: TrainState) -> tuple[Any, ...]:
    """What `Programs.jitted["steps"]` takes, for the first step."""
    replicates = len(state.step)
    order = np.zeros((replicates, 64), np.int32)  # drawn anew at an epoch's first step
    nothing = np.zeros(replicates, np.int32)
    zeros = Counts(nothing.astype(np.float32), nothing, {"accuracy": nothing})
    tally = Tally(zeros, np.full(replicates, NEVER, np.int32))
    state = state.replace(key=jnp.copy(state.key))  # what is given to a step is gone
    carry = mesh.put(devices, (state, order, tally), mesh.BY_REPLICATE)
    return *carry, mesh.put(devices, dataset().train), np.int32(0), np.int32(1)


def chosen(tree: Any, start: int, stop: int) -> Any:
    """Some of the replicates."""
    return jax.tree.map(lambda leaf: leaf[start:stop], tree)


def train(made: tuple[Programs, Mesh], state: TrainState, steps: int) -> Any:
    """Variables after so many steps, on the host."""
    compiled, devices = made
    state, _, tally, *_ = arguments(devices, state)
    with compiled.feed(state.key, 0) as feed:
        return jax.device_get(compiled.run_steps(state, feed, tally, 0, steps)[0].variables)


def double(model: nn.Module, rows: int, columns: int) -> Any:
    """state, steps → variables in float64, through `step.make_train_step`, a replicate a row."""
    devices = mesh.make(rows, BATCH, replicate=rows, data=columns, devices=jax.devices())
    train_step = step.make_train_step(step.make_loss(model), optax.sgd(RATE), axis="data")

    def each(state, batch):
        return jax.vmap(lambda state: train_step(state, batch)[0])(state)

    specs = mesh.BY_REPLICATE, PartitionSpec("data")
    mapped = jax.jit(jax.shard_map(each, mesh=devices, in_specs=specs, out_specs=specs[0]))

    def train_all(state, steps):
        rng = np.random.default_rng(1)
        state = mesh.put(devices, state, mesh.BY_REPLICATE)
        for _ in range(steps):
            inputs, labels = rng.normal(size=(BATCH, 8, 8, 1)), rng.integers(0, 4, BATCH)
            batch = Batch(inputs, labels.astype(np.int32), np.ones(BATCH, bool))
            state = mapped(state, mesh.put(devices, batch, PartitionSpec("data")))
        return jax.device_get(state.variables)

    return train_all


def difference(ours: Any, reference: Any) -> float:
    """The largest over leaves and replicates, a share of the leaf's largest magnitude."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True)
    return max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for many, few in pairs
        for a, b in zip(many, few, strict=True)
    )


def equal(ours: Any, reference: Any) -> list[bool]:
    """Bit for bit, replicate by replicate."""
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True))
    return [all(a[r].tobytes() == b[r].tobytes() for a, b in pairs) for r in range(REPLICATES)]


def single_precision(name: str) -> dict[str, Any]:
    """One step on each mesh against one device; three steps bit for bit between equal shares."""
    model, found = MODELS[name](), {}
    state = initial(model)

    def alone(made, size, steps):
        """Replicates trained in groups of `size`, one group after the other."""
        groups = [chosen(state, r, r + size) for r in range(0, REPLICATES, size)]
        ends = [train(made, group, steps) for group in groups]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *ends)

    one, pair = on_mesh(model, 1, 1, 1), on_mesh(model, 1, 2, 2)
    first = alone(one, 1, 1)
    for rows, columns in MESHES:
        # Those that are unrolled compile slowly: one on a device, two where that is tested below.
        replicates = REPLICATES if name == "dense" or rows == 4 else rows
        made, own = on_mesh(model, rows, columns, replicates), chosen(state, 0, replicates)
        reference = chosen(first, 0, replicates)
        found[f"{name} {rows}×{columns}"] = difference(train(made, own, 1), reference)
        if (rows, columns) == (8, 1):
            found[f"{name} 1 a device"] = equal(train(made, own, 3), alone(one, 1, 3))
        if (rows, columns) == (4, 2):
            found[f"{name} 2 on two devices"] = equal(train(made, own, 3), alone(pair, 2, 3))
    return found


def three_by_default() -> dict[str, Any]:
    """Three replicates, batches of 12: the mesh of so many devices, bytes and losses of a step."""
    state, found = chosen(initial(Dense()), 0, 3), {}
    for count in DEFAULTS:
        devices = mesh.make(3, 12, devices=jax.devices()[:count])
        made = compiled_on(devices, Dense(), 12)
        given = arguments(devices, state)
        text = made.jitted["steps"].lower(*given).compile().as_text()
        found[count] = {
            "shape": [*devices.shape.values()],
            "bytes": communication.by_kind(communication.compiled(text)),
            "losses": made.jitted["steps"](*given)[2].counts.loss.tolist(),
        }
    return found


def between_two_slices(name: str, replicates: int) -> dict[str, int]:
    """Bytes that a step moves between two slices of four devices, by kind."""
    devices = mesh.make(replicates, BATCH, devices=jax.devices()[:8])
    state = chosen(initial(MODELS[name]()), 0, replicates)
    jitted = compiled_on(devices, MODELS[name](), BATCH).jitted["steps"]
    text = jitted.lower(*arguments(devices, state)).compile().as_text()
    return communication.by_kind(communication.crossing(communication.compiled(text), 4))


def step_bytes(name: str, params: Any) -> int:
    """Bytes of one replicate's step, counted by hand: float32 throughout, each of them once."""
    gradients = 4 * sum(leaf[0].size for leaf in jax.tree.leaves(params))
    scalars = 4 + 3 * 4  # the mean loss; counts of loss, correct and examples
    channels = params["BatchNorm_0"]["scale"].shape[1] if name == "convolutional" else 0
    # BatchNorm moves the means of x and x² forward. Backward it moves sums of three things: the
    # gradients of its shift (the bias's), of the mean, and of the factor scale / σ, from which
    # that of the scale and that of the variance follow. So beyond the parameters', the mean's.
    return gradients + scalars + 4 * (2 * channels + channels)


def double_precision(name: str, steps: int = 50) -> dict[str, float]:
    """Fifty steps on each mesh against one device."""
    model = MODELS[name](jnp.float64)
    state, alone, found = initial(model, np.float64), double(model, 1, 1), {}
    ends = [alone(chosen(state, r, r + 1), steps) for r in range(REPLICATES)]
    for rows, columns in MESHES:
        ours = double(model, rows, columns)(chosen(state, 0, rows), steps)
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours))
        stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *ends[:rows])
        found[f"{name} {rows}×{columns} float64"] = difference(ours, stacked)
    return found


if __name__ == "__main__":
    measured = {key: v for name in MODELS for key, v in single_precision(name).items()}
    measured["three"] = three_by_default()
    measured["slices"] = {
        f"{name} {r}": between_two_slices(name, r) for name in MODELS for r in (1, 2)
    }
    jax.config.update("jax_enable_x64", True)
    measured |= {key: v for name in MODELS for key, v in double_precision(name).items()}
    print(json.dumps(measured))
