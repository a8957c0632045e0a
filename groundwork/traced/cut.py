"""A network's computation in parts, cut at the outputs of named layers. Read `cut` first.

The parts are read from the jaxpr, so whoever wrote the network, it need not know of them. A part
computes what its layer's output needs and no part before has computed; whatever later parts take
from there, such as a residual, is handed on with it. What depends on variables and random keys
alone is never handed on: each part computes it for itself.
"""

# B batch

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import network, origins, walk
from groundwork.traced.walk import OWN_DERIVATIVES, REMATS
from groundwork.trees import Variables

WHOLE = ("scan", "while", "cond", *REMATS, *OWN_DERIVATIVES)  # what no cut goes through


class Part(NamedTuple):
    """What is computed between one cut and the next."""

    equations: tuple[int, ...]  # of the jaxpr, in their order
    answer: Any  # the variable that is the layer's output, or the network's
    gives: tuple[Any, ...]  # variables that later parts take, in the order of their making
    aside: Mapping[int, Any]  # which of the changed variables are known here → their variable
    parameters: origins.Paths  # that no part before has met


class Cut(NamedTuple):
    """A network's jaxpr and its parts, for one shape of inputs."""

    jaxpr: Any  # closed
    sizes: tuple[int, ...]  # how many of its arguments are variables, random keys and inputs
    parts: tuple[Part, ...]  # one for each layer, and the rest


def cut(
    apply: Callable[..., Any], variables: Variables, key: Any, inputs: Any, layers: Sequence[str]
) -> Cut:
    """Returns the parts of a network between the outputs of some of its layers; computes nothing.

    A layer is named by the path of its parameters or of their parents: `conv1`, `block2/conv1` or
    `block2`. Its output is the first value through which all that its parameters compute passes on
    to the network's output, and then whatever follows by itself: activations, sums with a
    residual, pooling, dropout, as long as one value of as many axes goes on and no other layer's
    parameters come in.

    Args:
      apply: (variables, key, inputs) → (outputs [B, …], a tree of changed variables).
      variables: collection → tree of arrays or shapes, `params` among them.
      key: of random numbers; any tree, None for none.
      inputs: arrays or shapes [B, …].
      layers: names, in the order of the computation.

    Raises:
      ValueError: there is no such layer, or it is not met on the way to the output; it lies inside
        a scan, a branch or another whole; other layers come between its parameters; it gives no
        single value [B, …]; layers are out of order or give the same output.
    """
    whole = (variables, key, inputs)
    leaves, structure = jax.tree.flatten(whole)
    shapes = [network.shape(leaf) for leaf in leaves]
    sizes = tuple(len(jax.tree.leaves(tree)) for tree in whole)

    def call(*leaves: Any) -> Any:
        return apply(*jax.tree.unflatten(structure, leaves))

    closed, (outputs, _) = jax.make_jaxpr(call, return_shape=True)(*shapes)
    if len(jax.tree.leaves(outputs)) != 1:
        raise ValueError(f"the network must give one array, not {jax.tree.structure(outputs)}")
    known = trees.flatten(variables)  # collection/path
    kinds: list[origins.Paths | None] = [frozenset([path]) for path in known]
    kinds += [origins.NONE] * sizes[1] + [None] * sizes[2]
    flat = jax.make_jaxpr(functools.partial(origins.opened, closed, kinds))(*shapes)
    graph = origins.graph_of(flat, kinds)
    batch = shapes[-1].shape[:1]
    paths = [path.partition("/")[2] for path in known if path.startswith("params/")]
    ends = [_output(graph, layer, paths, batch) for layer in layers]
    return Cut(flat, sizes, _parts(graph, layers, ends))


def run(
    made: Cut, k: int, variables: Variables, key: Any, values: Sequence[Any]
) -> tuple[jax.Array, tuple[jax.Array, ...], dict[int, jax.Array]]:
    """Returns what part k gives: its answer, the values for the next part, changed variables.

    Args:
      made: by `cut`, for these shapes.
      k: which part.
      variables: of the network.
      key: of random numbers.
      values: that part k − 1 gave; leaves of the inputs for the first one.
    """
    jaxpr, part = made.jaxpr.jaxpr, made.parts[k]
    given = jax.tree.leaves((variables, key))
    known = dict(zip(jaxpr.constvars, made.jaxpr.consts, strict=True))
    known.update(zip(jaxpr.invars[: len(given)], given, strict=True))
    takes = made.parts[k - 1].gives if k else jaxpr.invars[len(given) :]
    known.update(zip(takes, values, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for i in part.equations:
        equation = jaxpr.eqns[i]
        outputs = walk.bind(equation, list(map(read, equation.invars)))
        known.update(zip(equation.outvars, outputs, strict=True))
    aside = {place: read(variable) for place, variable in part.aside.items()}
    return read(part.answer), tuple(map(read, part.gives)), aside


def _output(graph: origins.Graph, layer: str, paths: Sequence[str], batch: tuple[int, ...]) -> Any:
    """Returns the variable that is a layer's output; see `cut`."""
    own = _belongs(layer, paths)
    meets = [i for i in graph.way if any(own(path) for path in origins.met(graph, i))]
    if not meets:
        raise ValueError(f"layer {layer!r} is not met on the way to the network's output")
    for i in meets:
        name = graph.jaxpr.eqns[i].primitive.name
        if name in WHOLE and not all(map(own, origins.met(graph, i))):
            raise ValueError(f"layer {layer!r} lies inside a {name}, through which no cut goes")
    found = None
    for value in _alone(graph, layer, meets):
        fits = value is not None and value.aval.shape[:1] == batch
        if found is not None and not (fits and value.aval.ndim == found.aval.ndim):
            break
        found = value if fits else None
    if found is None:
        raise ValueError(
            f"layer {layer!r} gives no single value [B, …] before other layers begin: name a layer "
            "around it"
        )
    return found


def _alone(graph: origins.Graph, layer: str, meets: Sequence[int]) -> Iterator[Any]:
    """Yields, after each equation from a layer's last on, the only value of the layer that goes on.

    It is None where several do. It ends where parameters of other layers come in.
    """
    descending: set[Any] = set()
    live: set[Any] = set()  # of them, what is still to be taken on the way to the output
    for i in graph.way[graph.way.index(meets[0]) :]:
        equation = graph.jaxpr.eqns[i]
        if i in meets or not descending.isdisjoint(origins.variables_of(equation.invars)):
            if i not in meets and origins.met(graph, i):
                if i < meets[-1]:
                    raise ValueError(f"layer {layer!r}: other layers come between its parameters")
                return
            descending.update(origins.variables_of(equation.outvars))
            live.update(v for v in origins.variables_of(equation.outvars) if v in graph.last)
        live = {v for v in live if graph.last[v] > i}
        if i >= meets[-1]:
            yield next(iter(live)) if len(live) == 1 else None


def _belongs(layer: str, paths: Sequence[str]) -> Callable[[str], bool]:
    """Returns whether a variable `collection/path` is one of a layer's.

    Raises:
      ValueError: there is no layer of this name.
    """
    known = {path for path in paths if "/" not in path}
    for path in paths:
        parts = path.split("/")
        known.update("/".join(parts[:n]) for n in range(1, len(parts)))
    if layer not in known.union(paths):
        raise ValueError(str(unknown("layer", layer, known)))

    def own(variable: str) -> bool:
        path = variable.partition("/")[2]
        return path == layer or path.startswith(f"{layer}/")

    return own


def _parts(graph: origins.Graph, layers: Sequence[str], ends: Sequence[Any]) -> tuple[Part, ...]:
    """Returns the parts that end at these variables, and the one that ends at the output."""
    output, *changed = graph.jaxpr.outvars
    answers, part_of = [*ends, output], dict[int, int]()
    for k, answer in enumerate(answers):
        if answer in answers[:k]:
            raise ValueError(_same(layers, answers.index(answer), k))
        if graph.made[answer] in part_of:
            raise ValueError(f"layer {layers[k]!r} comes before {layers[k - 1]!r}: name it first")
        part_of.update((i, k) for i in origins.before(graph, [answer]) if i not in part_of)
    aside: list[dict[int, Any]] = [{} for _ in answers]
    for place, variable in enumerate(changed):
        needed = origins.before(graph, [variable])
        k = max((part_of[i] for i in needed if i in part_of), default=0)
        part_of.update((i, k) for i in needed if i not in part_of)
        aside[k][place] = variable
    until = _until(graph, part_of, answers, aside)
    parts, met = [], origins.NONE
    for k, answer in enumerate(answers):
        own = {i for i, part in part_of.items() if part == k}
        takes = [v for i in own for v in graph.jaxpr.eqns[i].invars]
        alone = origins.before(graph, [*takes, *aside[k].values()], data=False)
        gives = tuple(v for v, (made, last) in until.items() if made <= k < last)
        meets = origins.NONE.union(*(origins.met(graph, i) for i in own)) - met
        parameters = frozenset(p.partition("/")[2] for p in meets if p.startswith("params/"))
        parts.append(Part(tuple(sorted(own | alone)), answer, gives, aside[k], parameters))
        met |= meets
    return tuple(parts)


def _until(
    graph: origins.Graph, part_of: Mapping[int, int], answers: Sequence[Any], aside: Sequence[Any]
) -> dict[Any, tuple[int, int]]:
    """Returns, for each value of data, the part that makes it and the last that takes it."""
    made = {v: 0 for v in graph.jaxpr.invars if graph.kinds[v] is None}
    for i in sorted(part_of):
        made.update(dict.fromkeys(origins.variables_of(graph.jaxpr.eqns[i].outvars), part_of[i]))
    last = dict(made)
    for i, k in part_of.items():
        for variable in origins.variables_of(graph.jaxpr.eqns[i].invars):
            if variable in last:
                last[variable] = max(last[variable], k)
    for k, answer in enumerate(answers):
        for variable in origins.variables_of([answer, *aside[k].values()]):
            if variable in last:
                last[variable] = max(last[variable], k)
    return {variable: (made[variable], last[variable]) for variable in made}


def _same(layers: Sequence[str], one: int, other: int) -> str:
    if other == len(layers):
        return f"layer {layers[one]!r} gives the network's own output, which is an exit already"
    return f"layers {layers[one]!r} and {layers[other]!r} give the same output: name one of them"
