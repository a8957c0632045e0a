"""What a search may choose from: for each layer the options that are possible. Read `make`."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import numpy as np

from compress.search.layers import Found, find
from compress.search.options import Space, Units, apart
from compress.search.settings import AS_IT_IS, Setting
from groundwork.errors import UserError, unknown
from groundwork.traced.reach import Reached
from groundwork.trees import Shapes
from lowrank.choose import candidates
from lowrank.choose.candidates import DENSE
from lowrank.factorization.methods import METHODS
from pruning.structured.graph import Graph, Group
from pruning.structured.importance import CRITERIA

Shares = Annotated[tuple[float, ...], "shares in (0, 1], such as (0.5, 0.25)"]
Widths = Annotated[tuple[int, ...], "numbers of bits, such as (3, 4, 5)"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceSpec:
    """`space`: what is proposed for each layer; a kind without numbers is not.

    Attributes:
      units: shares of each group's units that stay.
      criterion: what ranks units, of `pruning.structured`.
      methods: of low-rank forms, of `lowrank`.
      ranks: shares of the full rank; of `tucker`, of both full ranks.
      densities: shares of a kernel's weights that stay.
      bits: of a kernel's weights.
      activation_bits: of a layer's inputs.
      leave: patterns (fnmatch) of layers that stay as they are.
    """

    units: Shares = ()
    criterion: str = "l2"
    methods: Annotated[tuple[str, ...], "names, such as ('svd_outputs',)"] = ()
    ranks: Shares = ()
    densities: Shares = ()
    bits: Widths = ()
    activation_bits: Widths = ()
    leave: Annotated[tuple[str, ...], "patterns, such as ('conv1',)"] = ()

    def __post_init__(self) -> None:
        for key in ("units", "ranks", "densities"):
            for share in getattr(self, key):
                if not isinstance(share, int | float) or not 0 < share <= 1:
                    raise UserError(f"space.{key}={getattr(self, key)} must lie in (0, 1]")
        for key, least in (("bits", 1), ("activation_bits", 2)):
            for bits in getattr(self, key):
                if type(bits) is not int or not least <= bits <= 16:
                    raise UserError(f"space.{key}={getattr(self, key)} must be in {least}…16")
        if self.criterion not in CRITERIA:
            raise unknown("space.criterion", self.criterion, CRITERIA)
        for method in self.methods:
            if method not in METHODS["Conv"]:
                raise unknown("space.methods", method, METHODS["Conv"])
        if bool(self.methods) != bool(self.ranks):
            raise UserError("space.methods and space.ranks go together: give both, or neither")


def make(
    spec: SpaceSpec, model: Any, shapes: Shapes, example: Any, *, alone: bool = False
) -> Space:
    """Returns the space of a network, without what is not possible; nothing is computed.

    The first and the last layer are treated as all others are.

    Args:
      spec: of the config.
      model: of the network, see `layers.find`.
      shapes: of its variables, of one replicate.
      example: what it is called with, [1, …], arrays or shapes.
      alone: whether options change one thing alone, as a curve of it needs them.

    Raises:
      UserError: no layer has an option, or a pattern matches none.
    """
    found = find(model, shapes, example)
    left, options = dict(found.left), {}
    for pattern in spec.leave:
        if not any(fnmatchcase(path, pattern) for path in found.layers):
            raise unknown("space.leave", pattern, found.layers)
    groups = _groups(found)
    for path, layer in found.layers.items():
        if any(fnmatchcase(path, pattern) for pattern in spec.leave):
            left[path] = "space.leave names it"
            continue
        forms, missed = _forms_of(spec, path, layer, groups.get(path))
        weights = _weights_of(spec, path, layer, missed)
        left |= missed
        made = [*forms, *weights] if alone else _joined(forms, weights)
        options[path] = tuple(dict.fromkeys([AS_IT_IS, *made]))
    if all(len(row) == 1 for row in options.values()):
        why = next(iter(left.items()), None)
        because = f" ({why[0]}: {why[1]})" if why else ": give space.densities or space.bits"
        raise UserError(f"space: there is nothing to choose for any layer{because}")
    return Space(
        options=options,
        left=left,
        units={
            name: Units(group.units, _members(found.layers, group))
            for name, group in groups.items()
            if any(option.units < 1 for option in options.get(name, ()))
        },
        axes={path: _axes(found, groups, path) for path in options},
    )


def _forms_of(
    spec: SpaceSpec, path: str, layer: Reached, group: Group | None
) -> tuple[list[Setting], dict[str, str]]:
    """Returns the forms that a layer may have, and why it may not have others."""
    forms, left = [], {}
    if group is not None:
        units = Units(group.units, ())
        counts: dict[int, float] = {}
        for share in sorted(spec.units, reverse=True):
            counts.setdefault(units.kept(share), share)
        forms += [Setting(units=share) for n, share in counts.items() if n < group.units]
        if spec.units and not any(count < group.units for count in counts):
            left[f"units of {path}"] = f"all {group.units} would stay"
    for method in spec.methods:
        found, reason = _low_rank(spec, layer, method)
        forms += found
        if reason:
            left[f"{path} by {method}"] = reason
    return forms, left


def _low_rank(spec: SpaceSpec, layer: Reached, method: str) -> tuple[list[Setting], str]:
    """Returns the low-rank forms by a method, or why there are none."""
    if layer.layer.groups != 1:
        return [], f"it has {layer.layer.groups} groups of channels"
    if not layer.is_plain:
        return [], "its kernel has other axes"
    if not candidates.applies(layer, method):
        return [], "the method is not for such a kernel"
    if METHODS[layer.layer.kind][method].needs_inputs and (layer.enclosed or len(layer.inputs) > 1):
        return [], "what it is given cannot be had, or it is called more than once"
    full = METHODS[layer.layer.kind][method].full(layer.kernel)
    most = full if isinstance(full, tuple) else (full,)
    forms = {}
    for share in sorted(spec.ranks, reverse=True):
        ranks = tuple(max(1, round(share * one)) for one in most)
        rank: Any = ranks if isinstance(full, tuple) else ranks[0]
        smaller = candidates.parameters(layer, method, rank) < math.prod(layer.kernel)
        if smaller and candidates.macs(layer, method, rank) < candidates.macs(layer, DENSE, 0):
            forms[rank] = Setting(method=method, rank=rank)
    return [*forms.values()], "" if forms else "no rank of space.ranks makes it smaller"


def _weights_of(spec: SpaceSpec, path: str, layer: Reached, left: dict[str, str]) -> list[Setting]:
    """Returns what may be done to a layer's weights and inputs, one thing at a time."""
    size = math.prod(layer.shape)
    made = []
    for density in sorted(set(spec.densities), reverse=True):
        if density < 1 and round(density * size) < 1:
            left[f"density {density:g} of {path}"] = f"none of {size} weights would stay"
        elif density < 1:
            made.append(Setting(density=density))
    made += [Setting(bits=bits) for bits in sorted(set(spec.bits), reverse=True)]
    if spec.activation_bits and layer.enclosed:
        left[f"inputs of {path}"] = "they stay within a scan or a rematerialised part"
    elif spec.activation_bits:
        made += [Setting(activation_bits=b) for b in sorted(set(spec.activation_bits))[::-1]]
    return made


def _joined(forms: Sequence[Setting], weights: Sequence[Setting]) -> list[Setting]:
    """Returns every form with every density, number of bits, and number of the inputs' bits."""
    densities, bits, inputs = (
        [AS_IT_IS, *(one for one in weights if getattr(one, name) != getattr(AS_IT_IS, name))]
        for name in ("density", "bits", "activation_bits")
    )
    made = []
    for form, dense, few, given in itertools.product([AS_IT_IS, *forms], densities, bits, inputs):
        one = dataclasses.replace(
            form,
            density=dense.density,
            bits=few.bits,
            activation_bits=given.activation_bits,
        )
        if not apart([one]):
            made.append(one)
    return made


def _groups(found: Found) -> dict[str, Group]:
    """Returns the groups of units that may go, by name."""
    if found.graph is None:
        return {}
    return {
        group.name: group
        for group in found.graph.groups
        if group.name in found.layers and f"units of {group.name}" not in found.left
    }


def _members(layers: Mapping[str, Reached], group: Group) -> tuple[str, ...]:
    paths = {member.path.removeprefix("params/") for member in group.members}
    return tuple(path for path, layer in layers.items() if layer.parameter in paths)


def _axes(found: Found, groups: Mapping[str, Group], path: str) -> tuple[Mapping[str, float], ...]:
    """Returns for each axis of a kernel, group → the share of its entries that are its units'."""
    parameter = found.layers[path].parameter
    axes: list[dict[str, float]] = [{} for _ in found.layers[path].shape]
    graph: Graph | None = found.graph
    for name, group in groups.items() if graph is not None else ():
        for member in group.members:
            if member.path.removeprefix("params/") == parameter:
                share = np.size(member.positions) / found.layers[path].shape[member.axis]
                axes[member.axis][name] = axes[member.axis].get(name, 0.0) + share
    return tuple(axes)
