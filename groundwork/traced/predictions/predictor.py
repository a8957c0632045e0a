"""Predictions of a network whose weights stay: what depends on them alone is computed once.

On a CPU with oneDNN, whole chains of layers are one call each; see `fused.py`.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from groundwork import trees
from groundwork.architectures.cpu import library
from groundwork.traced import walk
from groundwork.traced.predictions.bounded import bounded
from groundwork.traced.predictions.fused import fused
from groundwork.trees import Variables


class Predictor(NamedTuple):
    """Two pure functions, of which the first is called once.

    Attributes:
      prepare: variables → what predictions need of them, compiled.
      apply: (prepared, …) → outputs, as `model.apply(variables, …)` has them.
    """

    prepare: Callable[[Variables], Any]
    apply: Callable[..., Any]


def predictor(
    apply: Callable[..., Any],
    variables: Variables,
    *inputs: Any,
    compute_memory: int | None = None,
    sparse: bool = False,
) -> Predictor:
    """Returns a network's function in two parts.

    Args:
      apply: (variables, …) → outputs, of a network in evaluation.
      variables: with the shapes of those that will be given.
      inputs: likewise.
      compute_memory: bytes of scratch memory that one convolution may take on the CPU, beside
        weights, inputs and outputs; None for any number. Each one has the fastest form that fits:
        oneDNN's own, MEC, im2col; or XLA's own, im2col, MEC. See `budget.py`.
      sparse: whether layers are computed from the entries of their kernels that are not zero,
        where that is faster; see `architectures.cpu.sparse`. Then `variables` are arrays, and the
        predictor is for their zeros: `prepare` takes variables that have at least these.

    Returns:
      The parts, for inputs of these shapes. Where BatchNorm becomes part of kernels, outputs differ
      from `apply`'s in their last bits. What oneDNN computes has no derivatives. A sparse layer
      meets no input at its zeros, so an input that is not finite spreads less far than in a dense
      one.

    Raises:
      ValueError: no form of a convolution fits `compute_memory`, or its memory is not known: it is
        no convolution of images by one kernel, or one inside of a loop, or not on the CPU; or
        `sparse`, and the variables are no arrays, or there is `compute_memory` too.

    Example:
        >>> from groundwork.traced import predictions
        >>> network = lambda variables, x: x @ (variables["kernel"] * variables["scale"])
        >>> variables = {"kernel": jnp.array([[1.0], [2.0]]), "scale": jnp.array(10.0)}
        >>> predict = predictions.predictor(network, variables, jnp.ones((1, 2)))
        >>> prepared = predict.prepare(variables)  # kernel times scale, once
        >>> predict.apply(prepared, jnp.array([[3.0, 4.0]])).tolist()
        [[110.0]]
    """
    every, tree = jax.tree.flatten(variables)
    places = [place for place, leaf in enumerate(every) if hasattr(leaf, "dtype")]
    leaves = [every[place] for place in places]
    shapes: list[Any] = []

    def flat(leaves: Sequence[Any], *inputs: Any) -> Any:
        given = dict(zip(places, leaves, strict=True))
        whole = [given.get(place, leaf) for place, leaf in enumerate(every)]
        outputs = apply(jax.tree.unflatten(tree, whole), *inputs)
        flat_outputs, shape = jax.tree.flatten(outputs)
        shapes.append(shape)
        return flat_outputs

    if sparse and not all(_is_concrete(leaf) for leaf in leaves):
        raise ValueError("a sparse predictor is made for variables' zeros: give it arrays")
    if sparse and compute_memory is not None:
        raise ValueError("compute_memory: of sparse layers it is not known; leave one of both out")
    closed = jax.make_jaxpr(flat)(leaves, *inputs)
    given = [*leaves, *jax.tree.leaves(inputs)]
    named = jax.tree_util.tree_flatten_with_path(variables)[0]
    paths = [trees.path(named[place][0]) for place in places]
    on_cpu = jax.default_backend() == "cpu"
    if compute_memory is not None:
        if not on_cpu:
            raise ValueError("compute_memory: only on the CPU is the memory of convolutions known")
        closed = jax.make_jaxpr(bounded(closed, paths, compute_memory))(*given)
    by_library = on_cpu and library.load() is not None
    if sparse and not by_library:
        print("sparse layers: computed dense by XLA here, which is no faster", file=sys.stderr)
    if by_library:
        known = [place < len(leaves) for place in range(len(given))]
        run = fused(closed, known, paths, compute_memory, leaves if sparse else None)
        closed = jax.make_jaxpr(run)(*given)
    before, after = _parts(closed, len(leaves))

    def whole(prepared: Any, *inputs: Any) -> Any:
        return jax.tree.unflatten(shapes[0], after(prepared, jax.tree.leaves(inputs)))

    compiled = jax.jit(before)

    def prepare(variables: Variables) -> list[Any]:
        given = jax.tree.leaves(variables)
        return compiled([given[place] for place in places])

    return Predictor(prepare, whole)


def _is_concrete(leaf: Any) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic, jax.Array)) and not isinstance(
        leaf, jax.core.Tracer
    )


def _parts(closed: ClosedJaxpr, count: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns what a jaxpr makes of its first `count` arguments alone, and the rest of it."""
    jaxpr = closed.jaxpr
    known = {*jaxpr.constvars, *jaxpr.invars[:count]}
    early, late = [], []
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not isinstance(v, Literal)]
        if all(variable in known for variable in inputs) and not equation.effects:
            known |= set(equation.outvars)
            early.append(equation)
        else:
            late.append(equation)
    read = [v for equation in late for v in equation.invars] + jaxpr.outvars
    kept = list(dict.fromkeys(v for v in read if not isinstance(v, Literal) and v in known))
    constants = dict(zip(jaxpr.constvars, closed.consts, strict=True))

    def before(leaves: Sequence[Any]) -> list[Any]:
        environment = constants | dict(zip(jaxpr.invars[:count], leaves, strict=True))
        return _evaluated(early, environment, kept)

    def after(prepared: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
        environment = dict(zip(kept, prepared, strict=True))
        environment |= dict(zip(jaxpr.invars[count:], leaves, strict=True))
        return _evaluated(late, environment, jaxpr.outvars)

    return before, after


def _evaluated(equations: Sequence[Any], environment: dict[Any, Any], wanted: Any) -> list[Any]:
    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else environment[variable]

    for equation in equations:
        outputs = walk.bind(equation, list(map(read, equation.invars)))
        environment.update(zip(equation.outvars, outputs, strict=True))
    return list(map(read, wanted))
