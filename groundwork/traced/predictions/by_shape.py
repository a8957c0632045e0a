"""Predictions of one network for inputs of any shapes. Read `compiled`."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from groundwork.traced.predictions.predictor import predictor
from groundwork.trees import Variables

KEPT = 8  # shapes of inputs for which weights are kept, packed


def compiled(
    apply: Callable[..., Any], variables: Variables, sparse: bool = False
) -> Callable[..., Any]:
    """Returns (inputs, **settings) → outputs of a network whose weights stay.

    It is compiled once for each shape of inputs; the last eight are kept, with their weights. It
    may be part of another compiled function, in which the weights are constants.

    Args:
      apply: (variables, inputs, **settings) → outputs, of a network in evaluation. Settings, such
        as `train=False`, are hashable.
      variables: arrays.
      sparse: see `predictor`.
    """

    @functools.lru_cache(maxsize=KEPT)
    def made(tree: Any, shapes: tuple[Any, ...], settings: tuple[Any, ...]) -> Any:
        leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
        chosen = functools.partial(apply, **dict(settings))
        parts = predictor(chosen, variables, *jax.tree.unflatten(tree, leaves), sparse=sparse)
        with jax.ensure_compile_time_eval():  # while another function is traced
            return functools.partial(jax.jit(parts.apply), parts.prepare(variables))

    def call(*inputs: Any, **settings: Any) -> Any:
        leaves, tree = jax.tree.flatten(inputs)
        shapes = tuple((jax.numpy.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves)
        return made(tree, shapes, tuple(sorted(settings.items())))(*inputs)

    return call
