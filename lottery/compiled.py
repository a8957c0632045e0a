"""A ticket as a function of inputs alone. Read `compiled`."""

# R replicates, B examples

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, trees
from groundwork.errors import UserError
from groundwork.traced import predictions
from groundwork.trees import Variables
from pruning import masks
from pruning.masks import Mask
from pruning.structured.program import evaluation


def compiled(
    variables: Variables, mask: Mask, model: Any, config: Mapping[str, Any] | None
) -> Callable[[Any], Any]:
    """Returns inputs [B, …] → outputs of a network under a mask, compiled for each shape of inputs.

    Args:
      variables: of one replicate.
      mask: likewise.
      model: a Linen or NNX module, or a function (variables, inputs) → outputs; None for that of
        the config.
      config: of the run.

    Raises:
      UserError: there is no model and no config; or, from the function, no network of the config
        has these variables.
    """
    if model is None and config is None:
        raise UserError("the ticket is of no run that names its network: give model=")
    of_run = config or {}
    params = masks.apply(mask, variables["params"])
    variables = jax.tree.map(jnp.asarray, {**variables, "params": params})
    made: list[Callable[..., Any]] = []

    def run(inputs: Any) -> Any:
        if not made:
            network = _of(of_run, variables, inputs) if model is None else model
            made.append(predictions.compiled(evaluation(network), variables, sparse=True))
        return made[0](inputs)

    return run


def _of(config: Mapping[str, Any], variables: Variables, inputs: Any) -> Any:
    """Returns the network of a run, for as many classes as its variables have."""
    example = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *jnp.shape(leaf)[1:]), jnp.result_type(leaf)), inputs
    )
    wanted = {path: np.shape(leaf) for path, leaf in trees.flatten(variables).items()}
    leaves = [leaf for leaf in reversed(jax.tree.leaves(variables["params"])) if np.ndim(leaf)]
    for classes in dict.fromkeys(leaf.shape[-1] for leaf in leaves):
        network = architectures.build(config, classes)
        found = trees.flatten(architectures.shapes(network, example))
        if {path: leaf.shape for path, leaf in found.items()} == wanted:
            return network
    shown = [tuple(leaf.shape) for leaf in jax.tree.leaves(inputs)]
    raise UserError(f"the ticket's variables are not those of its run's network for inputs {shown}")
