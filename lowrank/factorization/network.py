"""A network with some of its layers factorised. Read `factorize` first."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from groundwork import keys
from groundwork.traced import network, storage
from groundwork.traced import override as traced
from groundwork.traced.products import Layer, from_kernel
from groundwork.traced.reach import Reached
from groundwork.trees import Params, Variables
from lowrank.factorization import layers as layers_lib
from lowrank.factorization import reach, selfcheck
from lowrank.factorization.methods import STALLED, Decomposed, Method
from lowrank.factorization.plan import Layers, Plan, checked, found, kernel, stored
from lowrank.factorization.selfcheck import UNCHECKED


def factorize(
    model: Any,
    variables: Variables,
    plan: Plan,
    example: Any = None,
    key: jax.Array | None = None,
    *,
    inputs: Any = None,
    **kwargs: Any,
) -> tuple[Callable[..., Any], Any]:
    """Puts low-rank layers in place of a network's own, without rewriting it.

    It reaches the layers that multiply or convolve (in two dimensions) data by a kernel that comes
    to them untouched, whoever wrote the network.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, …) → outputs, such as
        one that merges an NNX state or calls an Equinox module.
      variables: `params` and other collections, which stay, of one network (no replicate axis); or
        any pytree of parameters.
      plan: path of a layer → a method of `methods.METHODS` and a rank: an integer, or for `tucker`
        two ([inputs, outputs]). Layers that it does not name stay as they are.
      example: what the network is called with, beside the variables: one argument of any tree and
        dtype, or a tuple of several. The result is checked on it, once: it must compute what the
        network computes with the kernels that the factors make up. `svd_outputs` looks at what its
        layers are given there. Without an example, layers are taken for Flax's `Dense` and `Conv`,
        and a warning says that nothing was checked.
      key: for `cp`, which starts at random; a fixed one by default.
      inputs: the former name of `example`.
      **kwargs: of the network's call on the example.

    Returns:
      `(apply, variables)`: `apply(variables, …)` works as the network does, and in the variables
      each layer of the plan has `{"STAGE": {"kernel": …}, …}` in place of its kernel, see
      `traced.storage`. Use both together. As for any network, jit, vmap, sharding, training, saving
      and pruning work. Outside jit it warns of iterations that stopped early; `decompose` returns
      that, with errors.

    Raises:
      ValueError: a path, method or rank does not exist, a kernel is not finite, a layer cannot be
        reached, an example is needed and missing, or `svd_outputs` is asked of a layer that is
        called more than once or within a scan; or the check fails.

    Example:
        >>> import flax.linen as nn
        >>> import lowrank
        >>> model, inputs = nn.Sequential([nn.Dense(8), nn.Dense(2)]), jnp.ones((1, 4))
        >>> variables = model.init(jax.random.key(0), inputs)
        >>> plan = {"layers_0": {"method": "svd", "rank": 1}}
        >>> apply, changed = lowrank.factorize(model, variables, plan, inputs)
        >>> jax.tree.map(jnp.shape, changed["params"]["layers_0"])
        {'bias': (8,), 'left': {'kernel': (4, 1)}, 'right': {'kernel': (1, 8)}}
        >>> apply(changed, inputs).shape
        (1, 2)
    """
    _check_arguments(model, variables, plan)
    example = inputs if example is None else example
    if kwargs and example is None:
        raise ValueError(f"{', '.join(kwargs)}: keywords of the network's call need an example")
    call = {"example": example, **kwargs}
    reached = None if example is None else reach.planned(model, variables, plan, **call)
    reached = found(variables, plan, reached)
    for path, entry in plan.items():
        checked(path, entry, reached[path])
    seen = {} if example is None else reach.collect(model, variables, plan, reached, **call)
    changed, results = decompose(variables, plan, seen, key, reached)
    for path, result in results.items():
        if not isinstance(result.converged, jax.core.Tracer) and not result.converged:
            warnings.warn(f"layer {path!r}: {STALLED}", stacklevel=2)
    apply = override(model, plan, None if example is None else reached)
    if example is None:
        warnings.warn(UNCHECKED, stacklevel=2)
    else:
        whole = materialize(changed, plan, variables, reached)
        networks = (network.apply_of(model), whole), (apply, changed)
        if not selfcheck.check(*networks, reach.arguments(example), kwargs):
            warnings.warn(selfcheck.SHAPES, stacklevel=2)
    return apply, changed


def _check_arguments(model: Any, variables: Any, plan: Any) -> None:
    if not callable(network.apply_of(model)):
        raise ValueError(f"the model must be a function or have `apply`, not {model!r}")
    if not isinstance(plan, Mapping):
        raise ValueError(f"a plan is path → method and rank, not {plan!r}")
    leaves = jax.tree.leaves(variables)
    if not any(hasattr(leaf, "dtype") for leaf in leaves):
        raise ValueError("the variables have no arrays")
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise ValueError("the variables are shapes: factors are made of numbers")


def override(model: Any, plan: Plan, layers: Layers | None = None) -> Callable[..., Any]:
    """Returns the network's function for variables that `decompose` has changed by this plan.

    Args:
      model: see `factorize`.
      plan: see `factorize`.
      layers: as for `decompose`.
    """

    def apply(variables: Variables, *args: Any, **kwargs: Any) -> Any:
        chosen = overrides(plan, variables, layers)
        return traced.override(model, chosen)(variables, *args, **kwargs)

    return apply


def overrides(
    plan: Plan, variables: Variables, layers: Layers | None = None
) -> dict[str, traced.Override]:
    """Returns what computes each layer of a plan, for `groundwork.traced.override`.

    Args:
      plan: see `factorize`.
      variables: that `decompose` has changed.
      layers: as for `decompose`.
    """
    chosen = {}
    for path, entry in plan.items():
        method, _ = stored(variables, path, entry)
        compute = functools.partial(_compute, method)
        if layers and path in layers:
            shape = functools.partial(_known, layers[path].shape)
            one = traced.Override(compute, method.names, shape, layers[path].parameter)
        else:
            one = traced.Override(compute, method.names, functools.partial(_shape, method))
        chosen[path] = one
    return chosen


def decompose(
    variables: Variables,
    plan: Plan,
    inputs: Mapping[str, jax.Array] | None = None,
    key: jax.Array | None = None,
    layers: Layers | None = None,
) -> tuple[Any, dict[str, Decomposed]]:
    """Returns the variables of `factorize`, and what the factors of each layer are worth.

    Args:
      variables: of one network.
      plan: see `factorize`.
      inputs: path → [rows, N], of the layers that `svd_outputs` decomposes; see `collect`.
      key: see `factorize`.
      layers: how the layers of the plan are reached; by default they are taken for Flax's.

    Raises:
      ValueError: as `factorize`.
    """
    key = jax.random.key(0) if key is None else key
    params, results = network.params_of(variables), {}
    for path, layer in found(variables, plan, layers).items():
        method, rank = checked(path, plan[path], layer)
        whole = kernel(variables, layer)
        if not jax.numpy.issubdtype(whole.dtype, jax.numpy.floating):
            raise ValueError(f"layer {path!r} has a kernel of {whole.dtype}: it must have floats")
        given = (inputs or {}).get(path)
        if method.needs_inputs and given is None:
            raise ValueError(f"layer {path!r}: {plan[path]['method']} needs inputs to look at")
        try:
            factors, results[path] = layers_lib.factors(
                method, whole, rank, keys.stream(key, path), given
            )
        except ValueError as error:
            raise ValueError(f"layer {path!r}: {error}") from error
        params = storage.put(params, layer.parameter, factors)
    return network.with_params(variables, params), results


def reconstruct(variables: Variables, path: str, entry: Mapping[str, Any]) -> jax.Array:
    """Returns the kernel that a layer's factors make up.

    Args:
      variables: that `decompose` has changed.
      path: of the layer.
      entry: of the plan.
    """
    return layers_lib.reconstruct(*stored(variables, path, entry))


def materialize(changed: Variables, plan: Plan, variables: Variables, layers: Layers) -> Any:
    """Returns a network's own variables, with the kernels that the factors make up.

    Args:
      changed: that `decompose` returned.
      plan: see `factorize`.
      variables: that `decompose` was given.
      layers: as for `decompose`.
    """
    for path, entry in plan.items():
        variables = with_kernel(variables, layers[path], reconstruct(changed, path, entry))
    return variables


def with_kernel(variables: Variables, layer: Reached, kernel: Any) -> Any:
    """Returns the variables with another kernel in a layer; see `plan.kernel` for its shape."""
    params = network.params_of(variables)
    changed = storage.replace(params, layer.parameter, from_kernel(layer.layer, kernel))
    return network.with_params(variables, changed)


def _compute(method: Method, layer: Layer, factors: Params, inputs: jax.Array) -> jax.Array:
    if layer.groups != 1:
        raise ValueError(f"layer {layer.path!r} has {layer.groups} groups: it is left alone")
    return layers_lib.compute(method, layer, factors, inputs)


def _shape(method: Method, factors: Params) -> tuple[int, ...]:
    """Returns the shape of the kernel that factors make up."""
    return jax.eval_shape(functools.partial(layers_lib.reconstruct, method), factors).shape


def _known(shape: tuple[int, ...], factors: Params) -> tuple[int, ...]:
    del factors
    return shape
