"""`graph`: a network as the graph from which engines' files are written."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

from compress import form
from deploy.graphs import finish, pooling, program, results
from deploy.graphs.constants import Constant, name_of
from deploy.graphs.draft import Draft, both, rewrite
from deploy.graphs.fold import BOUNDS, folded_affine
from deploy.graphs.graph import NONE, Graph, Stored, Value
from deploy.graphs.ones import RULES as ONES
from deploy.graphs.orders import RULES as ORDERS
from deploy.graphs.recognise import RULES as RECOGNISE
from deploy.graphs.recognise import WINDOWS
from deploy.graphs.tidy import LATE
from deploy.graphs.tidy import RULES as TIDY
from groundwork import trees
from groundwork.traced import network
from groundwork.trees import Variables
from pruning.structured import program as calls


def graph(
    model: Any, variables: Variables, example: Any, stored: Mapping[str, Stored] | None = None
) -> Graph:
    """Returns what a network computes in evaluation, as a graph.

    What depends on no input is computed here, BatchNorm and other affine maps of channels are part
    of the convolutions before them, and pooling, means, softmax and ReLU are single operations.
    bfloat16 networks compute in float32, and values that are not numbers are not followed: what
    engines make of them is their own.

    Args:
      model: a Linen module (called with `train=False` or what its signature has in its place), a
        `compress.form.Form`, what `pruning.structured.narrow`, `lowrank.factorize` or
        `compress.load` return, an NNX module, or any function (variables, inputs) → outputs that
        JAX traces.
      variables: of the network, of one replicate; None takes those of an NNX module itself.
      example: inputs [B, …]: an array, a shape, or a tree of them, which the network is called
        with as the training loop does it (a tuple is as many arguments of a module, and one of a
        function). Values do not matter. All shapes of the graph are those of this B.
      stored: path of a kernel (`fc1/kernel`) → its integers, which the graph then has, too; its
        `lost` says which it could not keep, and why.

    Returns:
      The graph: its nodes have the names of their layers, its inputs `input` or the paths in the
      tree of the example, its outputs `logits`, or `logits_0`, `logits_1`, …

    Raises:
      ValueError: an operation has no rule, which is named with its layer; a shape is not known; a
        result has no axis of the batch; `stored` names no parameter, or not its values.

    Example:
        >>> import deploy
        >>> network = lambda params, x: jax.nn.softmax(jax.nn.relu(x @ params["fc"]["kernel"]))
        >>> graph = deploy.graph(network, {"fc": {"kernel": jnp.ones((4, 2))}}, jnp.zeros((1, 4)))
        >>> for node in graph.nodes:  # ReLU is the lower bound of what the layer gives
        ...     print(node.operation, node.inputs, node.output, dict(node.attributes))
        dense ('input', 'fc/kernel', 'fc/bias') fc {'bounds': (0.0, inf)}
        softmax ('fc',) logits {'axis': 1}
    """
    if variables is None and isinstance(model, nnx.Module):
        variables = {}  # all are the module's own
    apply = evaluation(model)
    if not callable(apply):
        raise ValueError(f"model: {model!r:.80} is neither a module nor a function")
    inputs = _checked(example)
    leaves = trees.flatten(variables)
    arrays = {path: leaf for path, leaf in leaves.items() if hasattr(leaf, "dtype")}

    def call(arrays: Mapping[str, Any], inputs: Any) -> Any:
        whole = trees.unflatten({**leaves, **arrays}, variables)
        return apply(whole, inputs)

    shapes = {path: network.shape(leaf) for path, leaf in arrays.items()}
    closed, returned = jax.make_jaxpr(call, return_shape=True)(shapes, inputs)
    draft, names = Draft(), finish.inputs(inputs)
    prefix = bool(network.has_collections(variables))
    given = _constants(draft, arrays, prefix, stored or NONE)
    given += [
        draft.input(Value(leaf.shape, name_of(leaf.dtype))) for leaf in jax.tree.leaves(inputs)
    ]
    draft.outputs = program.walked(draft, closed.jaxpr, closed.consts, given)
    draft.is_walked = True
    structure = results.split(
        draft, returned, inputs, lambda other: jax.eval_shape(call, shapes, other)
    )
    rewrite(draft, both(WINDOWS, TIDY))
    rewrite(draft, both(RECOGNISE, ONES, ORDERS, TIDY))
    rewrite(draft, both(LATE, {"sum_pool": [pooling.averages]}, TIDY))
    folded_affine(draft)
    rewrite(draft, both(BOUNDS, TIDY))
    return finish.graph(draft, names, structure, stored or NONE)


def evaluation(model: Any) -> Callable[..., Any]:
    """Returns (variables, inputs) → outputs of a network in evaluation; see `graph`."""
    if isinstance(model, form.Form):
        return form.evaluation(model)
    if isinstance(model, nnx.Module):
        return calls.of_nnx(model)
    whole = getattr(model, "__self__", None)
    if isinstance(whole, nn.Module) and model == whole.apply:  # `compress.load` returns it
        return calls.evaluation(whole)
    return calls.evaluation(model)


def without_activations(model: form.Form, variables: Variables) -> tuple[form.Form, Variables]:
    """Returns a form whose layers take inputs as they are, and its variables.

    Engines round all values to their own grids (`export(…, int8=…)`), and not the inputs of some
    layers, as a form with `activations` does; `graph` refuses that one.
    """
    kept = {name: tree for name, tree in variables.items() if name != form.ACTIVATIONS}
    return model._replace(activations=form.NONE, gradients=form.NONE), kept


def _checked(example: Any) -> Any:
    """Returns the shapes of the inputs, all of whose sizes must be known."""
    if not jax.tree.leaves(example):
        raise ValueError("example: give inputs [B, …], an array, a shape, or a tree of them")
    leaves = trees.flatten(example)
    batch = next((leaf.shape[0] for leaf in leaves.values() if getattr(leaf, "shape", ())), None)
    for path, leaf in leaves.items():
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ValueError(f"example{f' {path}' if path else ''} is no array and no shape")
        if not all(isinstance(size, int | np.integer) for size in leaf.shape):
            raise ValueError(f"example: the shape {leaf.shape} is not known: give one of numbers")
        if not leaf.shape or leaf.shape[0] != batch:
            shapes = ", ".join(str(leaf.shape) for leaf in leaves.values())
            raise ValueError(f"example: arrays {shapes} have no first axis of one size, the batch")
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example)


def _constants(
    draft: Draft, arrays: Mapping[str, Any], prefix: bool, stored: Mapping[str, Stored]
) -> list[str]:
    """Adds the parameters; returns their names in the order of JAX's leaves."""
    named = {path: path.partition("/")[2] if prefix else path for path in arrays}
    params = {one for path, one in named.items() if not prefix or path.startswith("params/")}
    if unknown := [path for path in stored if path not in params]:
        raise ValueError(f"stored: the network has no parameter {unknown[0]!r}")
    names = {}
    for path, leaf in arrays.items():
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ValueError(f"variables: {path!r} is a shape, where its values are needed")
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            names[path] = draft.add(
                "refused", [], leaf.shape, "opaque", why="no rule for random keys"
            )
            continue
        one = named[path]
        whole = stored.get(one) if not prefix or path.startswith("params/") else None
        made = draft.constant(leaf, one)
        if whole is not None:
            draft.constants[made] = _whole(draft.constants[made], whole)
        names[path] = made
    return [names[path] for path in sorted(names)]


def _whole(found: Constant, stored: Stored) -> Constant:
    """Returns a kernel with its integers."""
    codes, scales = np.asarray(stored.codes), np.asarray(stored.scales, np.float32)
    path, shape = found.source, found.array.shape
    if codes.shape != shape or scales.shape != shape[-1:] or codes.dtype != np.int8:
        raise ValueError(
            f"stored[{path!r}] has codes {codes.dtype} {codes.shape} and scales {scales.shape}, "
            f"not int8 {shape} and {shape[-1:]}"
        )
    values = codes * scales
    if not np.allclose(values, found.array, atol=1e-5 * np.abs(found.array).max(initial=0)):
        raise ValueError(f"stored[{path!r}]: codes × scales are not the parameter's values")
    return Constant(values, path, codes, np.broadcast_to(scales, shape))
