"""Plans: which layer of a network is factorised, by which method and to which rank.

A plan is path of a layer → `{"method": "tucker", "rank": [8, 8]}`, nested dicts that JSON keeps.
"""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.errors import UserError, unknown
from groundwork.traced.override import LayerError
from groundwork.trees import Params, Shapes, Variables
from lowrank.factorization.methods import KINDS, METHODS, Method, Rank

Plan = Mapping[str, Mapping[str, Any]]


def checked(path: str, entry: Mapping[str, Any], kernel: Any) -> tuple[Method, Rank]:
    """Returns the method and rank of a plan's entry.

    Args:
      path: of the layer.
      entry: of the plan.
      kernel: of the layer, array or shape.

    Raises:
      LayerError: the entry has other keys, or a method or rank that this kernel cannot have.
    """
    if not isinstance(entry, Mapping) or set(entry) != {"method", "rank"}:
        entry = dict(entry) if isinstance(entry, Mapping) else entry
        raise LayerError(f"layer {path!r}: the plan must say method and rank, not {entry!r}")
    kind = KINDS.get(len(kernel.shape))
    if kind is None:
        raise LayerError(f"layer {path!r} has a kernel of shape {kernel.shape}: no method takes it")
    name = entry["method"]
    if name not in tuple(METHODS[kind]):
        raise LayerError(str(unknown(f"method of the {kind} layer {path!r}", name, METHODS[kind])))
    method = METHODS[kind][name]
    return method, _rank(path, entry["rank"], method.full(tuple(kernel.shape)))


def parameters(variables: Variables, path: str) -> Params:
    """Returns the parameters of the layer at `path`.

    Args:
      variables: arrays or shapes.
      path: of the layer.

    Raises:
      LayerError: there is no layer of that path with a kernel; it suggests a similar one.
    """
    kernels = [
        name for name in trees.flatten(variables["params"]) if f"/{name}".endswith("/kernel")
    ]
    known = [name.rpartition("/")[0] for name in kernels]
    if path not in known:
        raise LayerError(str(unknown("layer", path, known)))
    return at(variables, path)


def shapes(full: Shapes, plan: Plan) -> dict[str, Any]:
    """Returns the shapes of a network's variables once its layers are factorised by a plan.

    Args:
      full: the shapes of `architectures.shapes`.
      plan: see `factorize`.

    Raises:
      LayerError: as `checked` and `parameters`.
    """
    for path, entry in plan.items():
        params = parameters(full, path)
        kernel = params["kernel"]
        method, rank = checked(path, entry, kernel)
        stages = {
            stage.name: {"kernel": jax.ShapeDtypeStruct(shape, kernel.dtype)}
            for stage, shape in zip(method.stages, method.shapes(kernel.shape, rank), strict=True)
        }
        rest = {name: leaf for name, leaf in params.items() if name != "kernel"}
        full = replaced(full, path, {**stages, **rest})
    return full


def planned(full: Shapes, path: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """`shapes` for one layer; raises `UserError` until the archive calls `shapes`."""
    try:
        return shapes(full, {path: entry})
    except LayerError as error:
        raise UserError(str(error)) from error


def at(variables: Variables, path: str) -> Params:
    """Returns the parameters at a path, which must exist."""
    return functools.reduce(operator.getitem, _parts(path), variables["params"])


def replaced(variables: Variables, path: str, params: Params) -> dict[str, Any]:
    """Returns the variables with other parameters at `path`."""
    return {**variables, "params": _replaced(variables["params"], _parts(path), params)}


def _rank(path: str, rank: Any, full: Rank) -> Rank:
    wanted = "an integer" if isinstance(full, int) else "two integers, [inputs, outputs]"
    given = [rank] if isinstance(full, int) else rank
    most = (full,) if isinstance(full, int) else full
    wrong = LayerError(f"layer {path!r}: the rank must be {wanted}, not {rank!r}")
    if not isinstance(given, list | tuple | np.ndarray) or len(given) != len(most):
        raise wrong
    for one, largest in zip(given, most, strict=True):
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise wrong
        if not 1 <= one <= largest:
            raise LayerError(f"layer {path!r}: rank {one} is outside 1…{largest}, its full rank")
    return int(given[0]) if isinstance(full, int) else (int(given[0]), int(given[1]))


def _parts(path: str) -> list[str]:
    """Returns the keys of a path, from the top; none for a network that is a single layer."""
    return path.split("/") if path else []


def _replaced(tree: Mapping[str, Any], keys: list[str], leaf: Any) -> Any:
    if not keys:
        return leaf
    head, *rest = keys
    return {**tree, head: _replaced(tree[head], rest, leaf)}
