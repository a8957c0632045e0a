"""What a step moves between devices: what its trace asks for, and what the compiler has made of it.

Both count the bytes, on one device, of the whole array that a collective works on: the result of an
all-gather, the operand of a reduce-scatter, either of the two elsewhere, where they are equal. What
that costs on wires depends on the algorithm: a ring all-reduce of b bytes over D devices sends
2 (D − 1) / D × b.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# JAX's primitives → the collective that XLA makes of each.
KINDS = {
    "all_gather": "all-gather",
    "all_gather_invariant": "all-gather",
    "all_gather_reduced": "all-gather",
    "all_to_all": "all-to-all",
    "pbroadcast": "collective-broadcast",
    "pmax": "all-reduce",
    "pmin": "all-reduce",
    "ppermute": "collective-permute",
    "psum": "all-reduce",
    "psum_invariant": "all-reduce",
    "ragged_all_to_all": "ragged-all-to-all",
    "reduce_scatter": "reduce-scatter",
    "unreduced_psum": "all-reduce",
    "unreduced_reduce_scatter": "reduce-scatter",
}
# These name an axis but move nothing: they change what is known of a value, or read the mesh.
STILL = {"axis_index", "preduced", "pvary", "reduced_vary_cast", "vary_unreduced_cast"}

_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?[\w.-]+ = (?P<type>[^%"\n]+?) '
    rf"(?P<kind>{'|'.join(sorted(set(KINDS.values()), key=len, reverse=True))})"
    r"(?P<start>-start)?\((?P<rest>.*)$",
    re.MULTILINE,
)
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_GROUPS = re.compile(
    r"(?:replica_groups|source_target_pairs)="
    r"(?:\{(?P<listed>[\d,{} ]*)\}(?=,|$)"
    r"|\[(?P<shape>[\d,]+)\]<=\[(?P<dims>[\d,]+)\](?:T\((?P<order>[\d,]+)\))?"
    r"|mesh\[(?P<mesh>[^\]]+)\] \{(?P<axes>[\w',]*)\})"
)


class Traced(NamedTuple):
    """A collective that a traced computation asks for."""

    kind: str  # as XLA names it: all-reduce, all-gather, …
    axes: tuple[str, ...]  # of the mesh; axes of one device are left out
    types: tuple[str, ...]  # of its operands, such as "float32[3,4]"
    bytes: int  # of one call; in a scan, of all its iterations


class Compiled(NamedTuple):
    """A collective among compiled instructions."""

    kind: str
    types: tuple[str, ...]  # of its results, such as "f32[3,4]"
    bytes: int
    groups: tuple[tuple[int, ...], ...]  # devices that speak to each other, or (from, to) pairs


def traced(jitted: Any, *args: Any) -> list[Traced]:
    """Returns the collectives over more than one device that `jitted(*args)` asks for.

    The body of a `while` counts once, which makes one step of a loop over steps; that of a `scan`
    counts as often as it iterates; of a `cond`, the branch that moves most counts. Nothing is
    computed.

    Raises:
      ValueError: a primitive has an axis of the mesh, and `KINDS` does not say what it moves.
    """
    return list(_asked(jitted.trace(*args).jaxpr.jaxpr, {}))


def compiled(hlo: str) -> list[Compiled]:
    """Returns the collectives in a compiled module's text, each instruction once.

    Args:
      hlo: `jitted.lower(*args).compile().as_text()`.

    Raises:
      ValueError: devices are given in a form that is not known here.
    """
    header = hlo.partition("\n")[0]
    devices = math.prod(map(int, re.findall(r"(?:replica_count|num_partitions)=(\d+)", header)))
    everyone = tuple(range(devices))
    collectives = []
    for match in _INSTRUCTION.finditer(hlo):
        kind, types = match["kind"], match["type"]
        if match["start"] and kind != "all-reduce":  # (operands, results, …): the results
            types = _parts(types)[1]
        groups = _groups(match["rest"], everyone)
        size = sum(_array_bytes(name, shape) for name, shape in _ARRAY.findall(types))
        if kind == "reduce-scatter" and groups:
            size *= len(groups[0])
        names = tuple(f"{name}[{shape}]" for name, shape in _ARRAY.findall(types))
        collectives.append(Compiled(kind, names, size, groups))
    return collectives


def crossing(collectives: Iterable[Compiled], size: int) -> list[Compiled]:
    """Returns the collectives between slices of `size` devices each, which lie side by side."""
    return [c for c in collectives if any(len({d // size for d in g}) > 1 for g in c.groups)]


def by_kind(collectives: Iterable[Traced | Compiled]) -> dict[str, int]:
    """Returns the bytes of each kind."""
    total: Counter[str] = Counter()
    for collective in collectives:
        total[collective.kind] += collective.bytes
    return dict(total)


def _asked(jaxpr: Any, sizes: Mapping[str, int]) -> Iterator[Traced]:
    """Yields what `traced` returns; `sizes` are those of the axes of the mesh around the jaxpr."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name.removesuffix("_start").removesuffix("_p")
        if name == "cond":
            branches = [list(_asked(branch.jaxpr, sizes)) for branch in eqn.params["branches"]]
            yield from max(branches, key=lambda branch: sum(each.bytes for each in branch))
            continue
        named = eqn.params.get("axes", eqn.params.get("axis_name", ()))
        named = named if isinstance(named, tuple) else (named,)
        axes = tuple(axis for axis in named if isinstance(axis, str) and sizes.get(axis, 1) > 1)
        if axes and name in KINDS:
            operands, results = ([v.aval for v in vs] for vs in (eqn.invars, eqn.outvars))
            types = tuple(f"{a.dtype}[{','.join(map(str, a.shape))}]" for a in operands)
            size = max(sum(a.size * a.dtype.itemsize for a in side) for side in (operands, results))
            yield Traced(KINDS[name], axes, types, size)
        elif axes and name not in STILL and not name.endswith("_done"):
            raise ValueError(f"what does {name!r} over the axes {axes} move?")
        within = dict(eqn.params["mesh"].shape) if name == "shard_map" else {}
        times = eqn.params["length"] if name == "scan" else 1
        for inner in _inner(eqn.params):
            for collective in _asked(inner, {**sizes, **within}):
                yield collective._replace(bytes=collective.bytes * times)


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the jaxprs among an equation's parameters."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def _array_bytes(name: str, shape: str) -> int:
    """Returns the bytes of an array type in HLO, whose name usually ends in its number of bits."""
    digits = re.match(r"[a-z]+(\d+)", name)
    bits = {"pred": 8, "token": 0}.get(name, int(digits[1]) if digits else 0)
    entries = math.prod(int(d.lstrip("<=")) for d in shape.split(",") if d)
    return math.ceil(entries * bits / 8)


def _parts(type_: str) -> list[str]:
    """Returns the elements of a tuple type, whose layouts contain brackets and commas too."""
    parts, depth = [""], 0
    for letter in type_.strip()[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _groups(rest: str, everyone: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Returns the devices of each group, from an instruction's text; no list means all in one."""
    match = _GROUPS.search(rest)
    if not match:
        if "replica_groups=" in rest:
            raise ValueError(f"unknown form of replica groups: {rest[:200]}")
        return (everyone,)
    if match["shape"]:  # an iota of these dimensions, transposed, cut into rows
        dims, order = _numbers(match["dims"]), _numbers(match["order"] or "")
        return _grid(dims, order or tuple(range(len(dims))), _numbers(match["shape"])[1])
    if match["mesh"]:
        axes = dict(re.findall(r"'(\w+)'=(\d+)", match["mesh"]))
        chosen = re.findall(r"'(\w+)'", match["axes"])
        names = list(axes)
        outer_first = [axis for axis in names if axis not in chosen] + chosen
        order = tuple(names.index(axis) for axis in outer_first)
        row = math.prod(int(axes[axis]) for axis in chosen)
        return _grid(tuple(map(int, axes.values())), order, row)
    listed = re.findall(r"\{([\d, ]*)\}", match["listed"])
    return tuple(map(_numbers, listed)) or (everyone,)


def _numbers(listed: str) -> tuple[int, ...]:
    return tuple(int(number) for number in listed.split(",") if number.strip())


def _grid(dims: tuple[int, ...], order: tuple[int, ...], row: int) -> tuple[tuple[int, ...], ...]:
    """Returns devices 0, 1, … in an array of `dims`, axes in `order`, cut into rows of `row`."""
    flat = np.arange(math.prod(dims)).reshape(dims).transpose(order).reshape(-1, row)
    return tuple(tuple(map(int, devices)) for devices in flat)
