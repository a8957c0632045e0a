"""The training steps of `lottery.main`, and nothing around them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from configs.lottery import lenet_fashion_mnist
from groundwork import architectures, keys
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh
from groundwork.train import optim, programs
from groundwork.train.step import TrainState
from groundwork.trees import Variables
from lottery import spec
from pruning import enforce, masks, select
from pruning.criteria.weights import magnitude


def make(
    folder: str, replicates: int, enforced: bool = True, dtype: str = "float32"
) -> Callable[[int], None]:
    """Returns steps → None, which trains R replicates for so many steps, and then returns.

    It trains the shipped LeNet-300-100 on Fashion-MNIST: programs, optimiser and state are those of
    `lottery.main`, with half of the weights pruned. Without `enforced` the optimiser is the bare
    one; the difference is what enforcing masks costs. Layers compute in `dtype`.
    """
    shipped = lenet_fashion_mnist.get_config()
    shipped.replicates = replicates
    shipped.model.dtype = dtype
    shipped.data.update(source="idx", dir=folder)
    config = config_lib.resolve(shipped)
    checked, dataset = spec.from_config(config), data_lib.load(config)
    devices = mesh.make(replicates, checked.train.batch_size)
    optimizer = optim.make(checked.optimizer, checked.train.steps)
    compiled = programs.make(
        architectures.build(config["model"], dataset.classes),
        enforce.enforce(optimizer, None) if enforced else optimizer,
        dataset,
        devices,
        batch_size=checked.train.batch_size,
    )

    def start(root: jax.Array, variables: Variables) -> TrainState:
        params = variables["params"]
        mask = masks.ones(params, checked.prune.is_prunable)
        mask = select.prune(mask, magnitude(params, mask), 0.5)
        variables, opt_state = enforce.begin(optimizer)(variables, mask)
        opt_state = opt_state if enforced else opt_state.inner
        return TrainState(jnp.int32(0), root, variables, opt_state)

    roots = mesh.put(devices, keys.roots(0, replicates), mesh.BY_REPLICATE)
    state = jax.jit(jax.vmap(start))(roots, compiled.init(roots))
    state = mesh.put(devices, state, mesh.BY_REPLICATE)
    feed, tally, step = compiled.feed(roots, 0).__enter__(), compiled.no_tally(replicates), 0

    def advance(steps: int) -> None:
        nonlocal state, step
        state, _ = compiled.run_steps(state, feed, tally, step, step + steps)
        jax.block_until_ready(state)
        step += steps

    return advance
