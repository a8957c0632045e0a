"""A network with some layers factorised: `factorize`, by a plan that is readable data.

A plan is path of a layer → `{"method": "tucker", "rank": [8, 8]}`, nested dicts that JSON keeps.
"""

import functools
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from groundwork import keys
from groundwork.errors import UserError, unknown
from groundwork.traced import override as surgery
from lowrank.factorization import layers
from lowrank.factorization.layers import METHODS, Decomposed, Method, Rank

Plan = Mapping[str, Mapping[str, Any]]


def factorize(
    model: nn.Module,
    variables: Any,
    plan: Plan,
    inputs: jax.Array | None = None,
    key: jax.Array | None = None,
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """Low-rank layers in place of a network's own; the module is not rewritten.

    Args:
      model: any Linen module; `Dense` and two-dimensional `Conv` layers are reached.
      variables: `params`, and other collections, which stay. Of one network, no replicate axis.
      plan: path of a layer → method of `layers.METHODS` and rank: an integer, for `tucker` two
        ([inputs, outputs]). Layers that it does not name stay as they are.
      inputs: [B, …] examples; for `svd_outputs`, which looks at what its layer is given.
      key: for `cp`, which starts at random; a fixed one by default.
      **kwargs: passed on to `model.apply` with `inputs`.

    Returns:
      `(apply, variables)`: `apply(variables, inputs, **kwargs)` as `model.apply`, and variables
      where each such layer has `{"STAGE": {"kernel": …}, …}` in place of its kernel. Both are to
      be used together; as any others, they jit, vmap, shard, train, save and are pruned. It warns
      of iterations that stopped early, not under jit; `decompose` returns that, and errors.

    Raises:
      UserError: a path, method or rank that does not exist, a kernel that is not finite, inputs
        that are needed and lacking, `svd_outputs` of a layer that is called more than once. And
        `apply`, of a layer that is not a `Dense` or two-dimensional `Conv`, or has groups.
    """
    seen = collect(model, variables, plan, inputs, **kwargs)
    changed, found = decompose(variables, plan, seen, key)
    for path, worth in found.items():
        if not isinstance(worth.converged, jax.core.Tracer) and not worth.converged:
            warnings.warn(f"layer {path!r}: {layers.STALLED}", stacklevel=2)
    return override(model, plan), changed


def override(model: Any, plan: Plan) -> Callable[..., Any]:
    """`model.apply` for variables that `decompose` has changed by this plan."""
    return surgery.override(model, overrides(plan))


def overrides(plan: Plan) -> dict[str, surgery.Override]:
    """What computes each layer of a plan, for `surgery.override`."""
    return {path: _computed_by(entry) for path, entry in plan.items()}


def decompose(
    variables: Any,
    plan: Plan,
    inputs: Mapping[str, jax.Array] | None = None,
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, Decomposed]]:
    """The variables of `factorize`, and what each layer's factors are worth.

    Args:
      variables: of one network.
      plan: as `factorize`.
      inputs: path → [rows, N], of the layers that are decomposed by `svd_outputs`; see `collect`.
      key: as `factorize`.
    """
    key = jax.random.key(0) if key is None else key
    params, found = variables["params"], {}
    for path, entry in plan.items():
        own = parameters(variables, path)
        method, rank = checked(path, entry, own["kernel"])
        given = (inputs or {}).get(path)
        if method.needs_inputs and given is None:
            raise UserError(f"layer {path!r}: {entry['method']} needs inputs to look at")
        try:
            changed, found[path] = layers.factors(method, own, rank, keys.stream(key, path), given)
        except ValueError as error:
            raise UserError(f"layer {path!r}: {error}") from error
        params = _replaced(params, _parts(path), changed)
    return {**variables, "params": params}, found


def planned(shapes: Any, path: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of a network's variables once the layer at `path` is factorised so.

    Args:
      shapes: of `architectures.shapes`.
      path: of the layer.
      entry: of a plan.

    Raises:
      UserError: as `checked` and `parameters`.
    """
    own = parameters(shapes, path)
    kernel = own["kernel"]
    method, rank = checked(path, entry, kernel)
    changed = {
        stage.name: {"kernel": jax.ShapeDtypeStruct(shape, kernel.dtype)}
        for stage, shape in zip(method.stages, method.shapes(kernel.shape, rank), strict=True)
    }
    changed.update((name, leaf) for name, leaf in own.items() if name != "kernel")
    return {**shapes, "params": _replaced(shapes["params"], _parts(path), changed)}


def collect(
    model: nn.Module, variables: Any, plan: Plan, inputs: jax.Array | None, **kwargs: Any
) -> dict[str, jax.Array]:
    """What the layers that are to be decomposed by their outputs are given, path → [rows, N]."""
    paths = tuple(path for path, entry in plan.items() if _needs_inputs(variables, path, entry))
    return rows(model, variables, paths, inputs, **kwargs) if paths and inputs is not None else {}


def rows(
    model: nn.Module, variables: Any, paths: tuple[str, ...], inputs: jax.Array, **kwargs: Any
) -> dict[str, jax.Array]:
    """What some layers are given, as `layers.rows`: path → [rows, N].

    Raises:
      UserError: a layer that cannot be reached, or is called more than once.
    """
    met, missed = surgery.layers(model, variables, inputs, **kwargs)
    for path in paths:
        if path not in met:
            reason = missed["/".join((*_parts(path), "kernel"))]
            raise UserError(f"layer {path!r} cannot be computed in another way: {reason}")
        if len(met[path].inputs) > 1:
            raise UserError(
                f"layer {path!r} is shared, by {len(met[path].inputs)} calls: decompose it by its "
                "weights alone, as svd does"
            )
    seen = surgery.inputs_of(model, variables, inputs, paths, **kwargs)
    for path in paths:
        if not seen[path]:
            raise UserError(
                f"layer {path!r}: what it is given stays within a scan or vmap: decompose it by "
                "its weights alone, as svd does"
            )
    return {p: layers.rows(met[p].layer, met[p].kernel, x) for p, (x,) in seen.items()}


def checked(path: str, entry: Mapping[str, Any], kernel: Any) -> tuple[Method, Rank]:
    """A plan's entry as method and rank.

    Raises:
      UserError: keys, method or rank that this kernel does not have.
    """
    if not isinstance(entry, Mapping) or set(entry) != {"method", "rank"}:
        entry = dict(entry) if isinstance(entry, Mapping) else entry
        raise UserError(f"layer {path!r}: the plan must say method and rank, not {entry!r}")
    kind = layers.KINDS.get(len(kernel.shape))
    if kind is None:
        raise UserError(f"layer {path!r} has a kernel of shape {kernel.shape}: no method takes it")
    if entry["method"] not in tuple(METHODS[kind]):
        raise unknown(f"method of the {kind} layer {path!r}", entry["method"], METHODS[kind])
    method = METHODS[kind][entry["method"]]
    return method, _rank(path, entry["rank"], method.full(tuple(kernel.shape)))


def parameters(variables: Any, path: str) -> Mapping[str, Any]:
    """A layer's own parameters.

    Raises:
      UserError: there is no layer of that path with a kernel; suggests a near one.
    """
    known = [
        "/".join(str(key.key) for key in keys[:-1])
        for keys, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
        if getattr(keys[-1], "key", None) == "kernel"
    ]
    if path not in known:
        raise unknown("layer", path, known)
    return _at(variables, path)


def reconstruct(variables: Any, path: str, entry: Mapping[str, Any]) -> jax.Array:
    """The kernel that a layer's factors make up, of variables that `decompose` has changed."""
    own = _at(variables, path)
    kind = "Dense" if "left" in own else "Conv"
    return layers.reconstruct(METHODS[kind][entry["method"]], own)


def with_kernel(variables: Any, path: str, kernel: Any) -> dict[str, Any]:
    """The variables with another kernel in the layer at `path`."""
    own = {**_at(variables, path), "kernel": kernel}
    return {**variables, "params": _replaced(variables["params"], _parts(path), own)}


def _at(variables: Any, path: str) -> Any:
    return functools.reduce(operator.getitem, _parts(path), variables["params"])


def _computed_by(entry: Mapping[str, Any]) -> surgery.Override:
    """What computes a layer that was factorised so."""

    def compute(layer, params, inputs):
        if layer.groups != 1:
            raise UserError(f"layer {layer.path!r} has {layer.groups} groups: it is left alone")
        return layers.compute(METHODS[layer.kind][entry["method"]], layer, params, inputs)

    return compute


def _needs_inputs(variables: Any, path: str, entry: Mapping[str, Any]) -> bool:
    return checked(path, entry, parameters(variables, path)["kernel"])[0].needs_inputs


def _rank(path: str, rank: Any, full: Rank) -> Rank:
    wanted = "an integer" if isinstance(full, int) else "two integers, [inputs, outputs]"
    given = [rank] if isinstance(full, int) else rank
    most = (full,) if isinstance(full, int) else full
    if not isinstance(given, list | tuple) or len(given) != len(most):
        raise UserError(f"layer {path!r}: the rank must be {wanted}, not {rank!r}")
    for one, largest in zip(given, most, strict=True):
        if isinstance(one, bool) or not isinstance(one, int):
            raise UserError(f"layer {path!r}: the rank must be {wanted}, not {rank!r}")
        if not 1 <= one <= largest:
            raise UserError(f"layer {path!r}: rank {one} is outside 1…{largest}, its full rank")
    return given[0] if isinstance(full, int) else (given[0], given[1])


def _parts(path: str) -> list[str]:
    """Keys from the top; of a network that is one layer, none."""
    return path.split("/") if path else []


def _replaced(tree: Mapping[str, Any], path: list[str], leaf: Any) -> dict[str, Any]:
    """The tree with something else at `path`."""
    if not path:
        return leaf
    head, *rest = path
    return {**tree, head: _replaced(tree[head], rest, leaf)}
