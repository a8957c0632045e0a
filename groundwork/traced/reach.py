"""Which layers of a network can be computed in another way, and what they are given."""

from typing import Any, NamedTuple

import jax

from groundwork import trees
from groundwork.traced import network
from groundwork.traced.products import Layer, as_inputs, as_kernel, described
from groundwork.traced.walk import Mark, Product, Visitor
from groundwork.trees import Variables

UNUSED = "nothing is multiplied by it in this call"
ADDED = ("bias", "scale", "b", "offset")  # the usual names of what is no weight of a product


class Reached(NamedTuple):
    """A layer that is called on the way through a network."""

    layer: Layer
    kernel: tuple[int, ...]  # shape: [N, M] or [KH, KW, in, out]
    inputs: tuple[tuple[int, ...], ...]  # the shape at each call; two where weights are shared
    parameter: str = ""  # path of the kernel, "fc1/kernel"
    stack: tuple[int, ...] = ()  # leading axes of the parameter, of whose kernels a scan takes one
    repeats: int = 1  # how often scans make each call
    enclosed: bool = False  # in a scan or a rematerialised part, where what it is given stays

    @property
    def is_plain(self) -> bool:
        """Whether the parameter has the axes of the layer's kernel in their order, and no other."""
        return self.shape == self.kernel and self.layer.is_straight

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter, as the network has it."""
        layout = self.layer.layout
        return (*self.stack, *(layout.shape if layout else self.kernel))


def layers(
    model: Any, variables: Variables, *args: Any, **kwargs: Any
) -> tuple[dict[str, Reached], dict[str, str]]:
    """Returns the layers that can be reached, in the order of their calls, and the others.

    Nothing is computed.

    Args:
      model: a Linen module, anything with `apply`, or a function (variables, …) → outputs.
      variables: any pytree of arrays or shapes. Of a mapping with `params`, these are followed.
      *args: what the network takes: arrays or shapes such as [B, …] inputs, and anything else.
      **kwargs: likewise.

    Returns:
      `(reached, refused)`: layers by path; and path → the reason, of every other parameter that
      has two or more axes and is not called a bias or scale.

    Example:
        >>> from groundwork.traced import reach
        >>> network = lambda params, x: jax.nn.relu(x @ params["fc1"]) @ params["fc2"]
        >>> params = {"fc1": jnp.ones((3, 4)), "fc2": jnp.ones((4, 2)), "spare": jnp.ones((5, 5))}
        >>> reached, refused = reach.layers(network, params, jnp.ones((1, 3)))
        >>> {path: (layer.kernel, layer.inputs) for path, layer in reached.items()}
        {'fc1': ((3, 4), ((1, 3),)), 'fc2': ((4, 2), ((1, 4),))}
        >>> refused
        {'spare': 'nothing is multiplied by it in this call'}
    """
    weights = trees.flatten(network.params_of(variables))
    shapes = {path: tuple(getattr(leaf, "shape", ())) for path, leaf in weights.items()}
    calls: dict[str, dict[tuple[int, ...], Reached]] = {}
    reasons: dict[str, str] = {}

    def product(met: Product, kernel: jax.Array, inputs: jax.Array) -> None:
        path = met.mark.path
        layer = described(met, network.layer_path(path))
        if isinstance(layer, str):
            reasons.setdefault(path, layer)
            return
        calls.setdefault(path, {})[met.place] = Reached(
            layer=layer,
            kernel=as_kernel(layer, kernel).shape,
            inputs=(as_inputs(layer, inputs).shape,),
            parameter=path,
            stack=shapes[path][: met.mark.stacked],
            repeats=met.repeats,
            enclosed=met.depth > 0,
        )

    visitor = Visitor(product=product, other=lambda mark, why: _note(reasons, mark, why))
    network.abstractly(
        lambda variables, args, kwargs: network.evaluate(
            visitor, model, variables, {}, args, kwargs
        ),
        variables,
        args,
        kwargs,
    )
    reached = {}
    for path, met in calls.items():
        first, *rest = met.values()
        if any(one._replace(inputs=first.inputs) != first for one in rest):
            reasons.setdefault(path, "its calls compute in different ways")
        if sum(network.layer_path(other) == first.layer.path for other in calls) > 1:
            reasons.setdefault(path, "its layer multiplies by another parameter, too")
        if path not in reasons:
            inputs = tuple(shape for one in met.values() for shape in one.inputs)
            reached[path] = first._replace(inputs=inputs)
    refused = {
        path: reasons.get(path, UNUSED)
        for path, shape in shapes.items()
        if path not in reached and len(shape) >= 2 and path.rpartition("/")[2] not in ADDED
    }
    return {network.layer_path(path): one for path, one in reached.items()}, refused


def inputs_of(
    model: Any, variables: Variables, paths: tuple[str, ...], *args: Any, **kwargs: Any
) -> dict[str, list[jax.Array]]:
    """Returns what the layers at `paths` are given when the network is called with `args`.

    Returns:
      Path → one array for each call, as the layer takes it; none for a layer that is not called,
      or that stands within a scan or a rematerialised part.
    """
    return with_inputs(model, variables, paths, *args, **kwargs)[1]


def with_inputs(
    model: Any, variables: Variables, paths: tuple[str, ...], *args: Any, **kwargs: Any
) -> tuple[Any, dict[str, list[jax.Array]]]:
    """Returns the outputs of a network, and what `inputs_of` returns for that call."""
    seen: dict[str, list[jax.Array]] = {path: [] for path in paths}

    def product(met: Product, kernel: jax.Array, inputs: jax.Array) -> None:
        path = network.layer_path(met.mark.path)
        if path in seen and not met.depth:
            layer = described(met, path)
            if not isinstance(layer, str):
                seen[path].append(as_inputs(layer, inputs))

    visitor = Visitor(product=product, other=lambda mark, why: None)
    outputs = network.evaluate(visitor, model, variables, {}, args, kwargs)
    return outputs, seen


def _note(reasons: dict[str, str], mark: Mark, why: str) -> None:
    reasons.setdefault(mark.path, why)
