"""Plans: which layer of a network is factorised, by which method and to which rank.

A plan is path of a layer → `{"method": "tucker", "rank": [8, 8]}`, nested dicts that JSON keeps.
"""

# L layers of a stack, N M inputs and outputs of a matrix

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network, storage
from groundwork.traced.products import Layer, as_kernel
from groundwork.traced.reach import Reached
from groundwork.trees import Params, Shapes, Variables
from lowrank.factorization.methods import KINDS, METHODS, Method, Rank

Plan = Mapping[str, Mapping[str, Any]]
Layers = Mapping[str, Reached]
"""Path → how the layer is reached, as `reach.decomposable` or `traced.reach.layers` tells."""


def checked(path: str, entry: Mapping[str, Any], layer: Reached) -> tuple[Method, Rank]:
    """Returns the method and rank of a plan's entry.

    Args:
      path: of the layer.
      entry: of the plan.
      layer: at the path.

    Raises:
      ValueError: the entry has other keys, or a method or rank that this layer cannot have.
    """
    if not isinstance(entry, Mapping) or set(entry) != {"method", "rank"}:
        entry = dict(entry) if isinstance(entry, Mapping) else entry
        raise ValueError(f"layer {path!r}: the plan must say method and rank, not {entry!r}")
    kind = KINDS.get(len(layer.kernel))
    if kind is None:
        raise ValueError(
            f"layer {path!r} has a kernel of shape {layer.kernel}: no method takes it, unless an "
            "example shows how it is used"
        )
    if layer.layer.groups != 1:
        raise ValueError(f"layer {path!r} has {layer.layer.groups} groups: it is left alone")
    name = entry["method"]
    if name not in tuple(METHODS[kind]):
        raise ValueError(str(unknown(f"method of the {kind} layer {path!r}", name, METHODS[kind])))
    method = METHODS[kind][name]
    return method, _rank(path, entry["rank"], method.full(layer.kernel))


def assumed(variables: Variables, path: str) -> Reached:
    """Returns the layer at `path` as one of Flax's Dense or Conv, which no call has shown to be so.

    Args:
      variables: arrays or shapes.
      path: of the layer.

    Raises:
      ValueError: there is no layer of that path with a kernel; it suggests a similar one.
    """
    leaves = trees.flatten(network.params_of(variables))
    kernels = {
        network.layer_path(name): name
        for name in leaves
        if name.rpartition("/")[2] in ("kernel", "w")  # Flax's and Haiku's, in that order of axes
    }
    if path not in kernels:
        raise ValueError(str(unknown("layer", path, kernels)))
    shape = tuple(leaves[kernels[path]].shape)
    kind = KINDS.get(len(shape), "Dense")
    return Reached(Layer(path, kind), shape, (), parameter=kernels[path])


def found(variables: Variables, plan: Plan, layers: Layers | None) -> dict[str, Reached]:
    """Returns the layers of a plan; without `layers` they are `assumed`.

    Raises:
      ValueError: a path of the plan is not that of a layer.
    """
    if layers is None:
        return {path: assumed(variables, path) for path in plan}
    for path in plan:
        if path not in layers:
            raise ValueError(str(unknown("layer", path, layers)))
    return {path: layers[path] for path in plan}


def kernel(variables: Variables, layer: Reached) -> jax.Array:
    """Returns a layer's kernel, [N, M] or [KH, KW, in, out], after any axes of stack or replicates.

    Args:
      variables: of the network.
      layer: of it.
    """
    leaf = trees.flatten(network.params_of(variables))[layer.parameter]
    return as_kernel(layer.layer, leaf)


def shapes(full: Shapes, plan: Plan, layers: Layers | None = None) -> dict[str, Any]:
    """Returns the shapes of a network's variables once its layers are factorised by a plan.

    Args:
      full: the shapes of the network's own variables.
      plan: see `factorize`.
      layers: see `found`.

    Raises:
      ValueError: as `checked` and `found`.
    """
    params = network.params_of(full)
    leaves = trees.flatten(params)
    for path, layer in found(full, plan, layers).items():
        method, rank = checked(path, plan[path], layer)
        dtype = leaves[layer.parameter].dtype
        stages = {
            stage.name: {"kernel": jax.ShapeDtypeStruct((*layer.stack, *shape), dtype)}
            for stage, shape in zip(method.stages, method.shapes(layer.kernel, rank), strict=True)
        }
        params = storage.put(params, layer.parameter, stages)
    return network.with_params(full, params)


def stored(variables: Variables, path: str, entry: Mapping[str, Any]) -> tuple[Method, Params]:
    """Returns the method of a layer that is factorised, and its factors: stage → `kernel`.

    Args:
      variables: that `decompose` has changed.
      path: of the layer.
      entry: of the plan.

    Raises:
      ValueError: nothing is stored for that layer by that method.
    """
    params = network.params_of(variables)
    for methods in METHODS.values():
        if (method := methods.get(entry["method"])) and (
            place := storage.find(params, path, method.names)
        ):
            return method, storage.get(params, place, method.names)
    raise ValueError(f"layer {path!r} has no factors by {entry['method']}: use `decompose`'s trees")


def _rank(path: str, rank: Any, full: Rank) -> Rank:
    wanted = "an integer" if isinstance(full, int) else "two integers, [inputs, outputs]"
    given = [rank] if isinstance(full, int) else rank
    most = (full,) if isinstance(full, int) else full
    wrong = ValueError(f"layer {path!r}: the rank must be {wanted}, not {rank!r}")
    if not isinstance(given, list | tuple | np.ndarray) or len(given) != len(most):
        raise wrong
    for one, largest in zip(given, most, strict=True):
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise wrong
        if not 1 <= one <= largest:
            raise ValueError(f"layer {path!r}: rank {one} is outside 1…{largest}, its full rank")
    return int(given[0]) if isinstance(full, int) else (int(given[0]), int(given[1]))
