"""Parameters that layers of equal shape share: they are stored once and trained tied.

`tie` leaves the first of each group in the tree, and `materialize` puts it into the places of the
others inside jit, so that its gradient is the sum over all of them. Read `shared`, which does both
around a network.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from groundwork.numerics import checks
from groundwork.traced.network import Network
from groundwork.train.step import Model
from groundwork.trees import Variables

Groups = Sequence[Sequence[str]]
"""Groups of two or more paths, of layers (`block1/conv1`) or of leaves (`fc2/kernel`)."""

Values = Literal["first", "mean"]


def tie(params: Mapping[str, Any], groups: Groups, values: Values = "first") -> dict[str, Any]:
    """Returns the tree in which each group is stored at its first path alone.

    An optimiser, a mask or a checkpoint sees this tree, so what is shared counts once.

    Args:
      params: nested dicts of arrays, which may have an axis of replicates.
      groups: the paths that share their parameters. Tied layers have the same leaves and share all
        of them; to share kernels and keep biases apart, name the kernels. Statistics of BatchNorm
        are not parameters, and each layer keeps its own.
      values: those of the `first`, or the `mean` over the group.

    Raises:
      ValueError: there is no such path (the message lists those there are), a path is in two groups
        or inside another path, a group has fewer than two paths, or leaves or shapes differ.

    Example:
        >>> from compress import share
        >>> params = {"a": {"kernel": jnp.array([1.0])}, "b": {"kernel": jnp.array([3.0])}}
        >>> share.tie(params, [("a", "b")], values="mean")
        {'a': {'kernel': Array([2.], dtype=float32)}}
    """
    checks.name("values", values, get_args(Values))
    flat = flatten_dict(dict(params), sep="/")
    members = _members(flat, groups)
    _check_equal(flat, members)
    for first, *others in members:
        for suffix, leaf in first.items():
            tied = [flat.pop(other[suffix]) for other in others]
            if values == "mean":
                flat[leaf] = jnp.mean(jnp.stack([flat[leaf], *tied]), 0)
    return unflatten_dict(flat, sep="/")


def materialize(stored: Mapping[str, Any], groups: Groups) -> dict[str, Any]:
    """Returns all parameters, from the tree that `tie` left. For jit, vmap and grad.

    Args:
      stored: the tree, whether or not it was trained since.
      groups: the groups that `tie` was given.

    Raises:
      ValueError: the first path of a group is missing, or another one of it is there.

    Example:
        >>> from compress import share
        >>> def product(stored):
        ...     params = share.materialize(stored, [("a", "b")])
        ...     return params["a"] * params["b"]
        >>> stored = {"a": jnp.float32(3)}
        >>> float(product(stored)), float(jax.grad(product)(stored)["a"])  # a², and its slope 2a
        (9.0, 6.0)
    """
    flat = flatten_dict(dict(stored), sep="/")
    whole = dict(flat)
    for first, *others in groups:
        source = _under(flat, first)
        if not source:
            raise ValueError(f"nothing is stored at {first!r} (stored: {', '.join(sorted(flat))})")
        for other in others:
            if _under(flat, other):
                raise ValueError(f"{other!r} is stored, and tied to {first!r}: tie the tree first")
            whole |= {other + suffix: flat[path] for suffix, path in source.items()}
    return unflatten_dict(whole, sep="/")


def without(params: Mapping[str, Any], groups: Groups) -> dict[str, Any]:
    """Returns the tree without all but the first of each group, whether or not they are there.

    Example:
        >>> from compress import share
        >>> params = {name: {"kernel": jnp.zeros((2, 2))} for name in ("a", "b", "c")}
        >>> sorted(share.without(params, [("a", "b")]))
        ['a', 'c']
    """
    flat = flatten_dict(dict(params), sep="/")
    for _, *others in groups:
        for other in others:
            for path in _under(flat, other).values():
                del flat[path]
    return unflatten_dict(flat, sep="/")


def layers_left(params: Mapping[str, Any], groups: Groups) -> list[str]:
    """Returns the layers that cannot be factorised on their own.

    Of tied layers these are all but the first, which stands for the others. Of tied leaves they are
    all the layers.

    Example:
        >>> from compress import share
        >>> params = {name: {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)} for name in "ab"}
        >>> share.layers_left(params, [("a", "b")])
        ['b']
        >>> share.layers_left(params, [("a/kernel", "b/kernel")])
        ['a', 'b']
    """
    flat, layers = flatten_dict(dict(params), sep="/"), []
    for first, *others in groups:
        if first in flat:
            layers += [path.rpartition("/")[0] for path in (first, *others)]
        else:
            layers += others
    return layers


def shared(model: Model, groups: Groups, values: Values = "first") -> Network:
    """Returns the network whose `params` are stored tied, for the ordinary training loop.

    Its `init` raises:
      ValueError: as `tie`.

    Example:
        >>> import flax.linen as nn
        >>> from compress import share
        >>> model = nn.Sequential([nn.Dense(4), nn.Dense(4), nn.Dense(4)])
        >>> network = share.shared(model, [("layers_0", "layers_1", "layers_2")])
        >>> variables = network.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> jax.tree.map(jnp.shape, variables["params"])
        {'layers_0': {'bias': (4,), 'kernel': (4, 4)}}
        >>> network.apply(variables, jnp.ones((1, 4))).shape
        (1, 4)
    """

    def init(*args: Any, **kwargs: Any) -> Variables:
        variables = model.init(*args, **kwargs)
        return {**variables, "params": tie(variables["params"], groups, values)}

    def apply(variables: Variables, *args: Any, **kwargs: Any) -> Any:
        params = materialize(variables["params"], groups)
        return model.apply({**variables, "params": params}, *args, **kwargs)

    return Network(init, apply)


def _members(flat: Mapping[str, Any], groups: Groups) -> list[list[dict[str, str]]]:
    """Returns each group's members: suffix (`/kernel`, or empty for a leaf) → path of the leaf."""
    owner: dict[str, str] = {}
    members = []
    for group in groups:
        if isinstance(group, str) or len(group) < 2:
            raise ValueError(f"a group is two paths or more, not {group!r}")
        leaves_by_path = [_under(flat, path) for path in group]
        for path, leaves in zip(group, leaves_by_path, strict=True):
            if not leaves:
                raise ValueError(f"no layer or leaf {path!r} (known: {', '.join(sorted(flat))})")
            for leaf in leaves.values():
                if leaf in owner:
                    raise ValueError(f"{leaf!r} is tied twice, by {owner[leaf]!r} and {path!r}")
                owner[leaf] = path
        members.append(leaves_by_path)
    return members


def _check_equal(flat: Mapping[str, Any], members: list[list[dict[str, str]]]) -> None:
    for first, *others in members:
        for other in others:
            if first.keys() != other.keys():
                raise ValueError(
                    f"only layers of the same leaves can be tied: {', '.join(first.values())} "
                    f"and {', '.join(other.values())}"
                )
            for suffix, path in first.items():
                one, two = flat[path], flat[other[suffix]]
                if (jnp.shape(one), one.dtype) != (jnp.shape(two), two.dtype):
                    raise ValueError(
                        f"only equal shapes can be tied: {path} is {one.dtype}{list(one.shape)}, "
                        f"{other[suffix]} {two.dtype}{list(two.shape)}"
                    )


def _under(flat: Mapping[str, jax.Array], path: str) -> dict[str, str]:
    """Returns suffix → path of a leaf, for the leaf at a path or the leaves below it."""
    if path in flat:
        return {"": path}
    return {leaf[len(path) :]: leaf for leaf in sorted(flat) if leaf.startswith(f"{path}/")}
