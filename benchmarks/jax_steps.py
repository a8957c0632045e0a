"""The training steps of `lottery.main` and nothing around them."""

from collections.abc import Callable

import jax
import numpy as np

from configs.lottery import lenet_fashion_mnist
from groundwork import architectures, keys
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh
from groundwork.train import optim, programs
from lottery import spec, tickets
from pruning import criteria, masks


def make(folder: str, replicates: int, enforced: bool = True) -> Callable[[int], None]:
    """steps → None: so many training steps of R replicates, done when it returns.

    The shipped LeNet-300-100 on Fashion-MNIST: the programs, the optimiser and the state are put
    together as `lottery.main` does it, with half of the weights pruned. Without `enforced`, the
    bare optimiser: what `masks.enforce` costs is the difference.
    """
    shipped = lenet_fashion_mnist.get_config()
    shipped.replicates = replicates
    shipped.data.update(source="idx", dir=folder)
    config = config_lib.resolve(shipped)
    checked, dataset = spec.from_config(config), data_lib.load(config)
    devices = mesh.make(replicates, checked.train.batch_size)
    optimizer = optim.make(checked.optimizer, checked.train.steps)
    compiled = programs.make(
        architectures.build(config["model"], dataset.classes),
        masks.enforce(optimizer, None) if enforced else optimizer,
        dataset,
        devices,
        batch_size=checked.train.batch_size,
    )
    network = tickets.make_network(compiled, optimizer, devices, checked.prune.is_prunable)
    state = _half_pruned(network, devices, replicates)
    state = state if enforced else state.replace(opt_state=state.opt_state.inner)
    feed, tally, step = compiled.feed(state.key, 0).__enter__(), compiled.no_tally(replicates), 0

    def advance(steps: int) -> None:
        nonlocal state, step
        state, _ = compiled.run_steps(state, feed, tally, step, step + steps)
        jax.block_until_ready(state)
        step += steps

    return advance


def _half_pruned(network: tickets.Network, devices: jax.sharding.Mesh, replicates: int):
    """The training state at step 0 under a mask of density one half."""

    def halve(mask, params):
        return masks.prune(mask, criteria.magnitude(params, mask), 0.5)

    zero = np.zeros(replicates, np.int32)
    roots, zero = mesh.put(devices, (keys.roots(0, replicates), zero), mesh.BY_REPLICATE)
    variables = network.programs.init(roots)
    params = variables["params"]
    mask = mesh.put(devices, jax.vmap(halve)(network.ones(params), params), mesh.BY_REPLICATE)
    return network.start(roots, mask, variables, zero)
