"""A network whose weights serve at several widths. Read `make` first.

Source: Yu et al., arXiv:1812.08928 (slimmable networks, switchable batch normalisation).
Departs: which units belong together is found in the traced network, so that any network can be
slimmable, and no layer knows of it.
"""

# U units of a group

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from groundwork import trees
from groundwork.errors import reason
from groundwork.traced import network as network_lib
from groundwork.trees import Shapes, Variables
from msdnet.slimmable import widths as widths_lib
from pruning import structured
from pruning.structured import Graph, Keep, Narrowed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Slimmable:
    """One set of weights at several widths; each width has its own BatchNorm.

    Its variables are those of the whole network, but a variable that is `switched` is a dict
    `{"width_0": …, "width_1": …}` in its place, with what each width has of its own, as narrow as
    the width is. All others are shared: a width takes the first entries of them.

    Attributes:
      graph: of the whole network, with what can be narrowed.
      widths: shares of each group's units, growing, the last 1.
      keeps: what each of them keeps.
      switched: paths of the variables that each width has of its own.
    """

    graph: Graph
    widths: tuple[float, ...]
    keeps: tuple[Keep, ...]
    switched: frozenset[str]

    def init(self, key: jax.Array, *args: Any, **kwargs: Any) -> Variables:
        """Returns new variables: the whole network's, see `begin`.

        Args:
          key: for random numbers.
          *args: as the network's own `init` takes them.
          **kwargs: likewise.

        Raises:
          ValueError: the network is a function, which has no `init`.
        """
        if not hasattr(self.graph.model, "init"):
            raise ValueError(
                "this network is a function and has no init: give its variables to begin"
            )
        return self.begin(self.graph.model.init(key, *args, **kwargs))

    def begin(self, variables: Variables) -> Variables:
        """Returns the variables that begin, at every width, with those of the whole network.

        Args:
          variables: of the whole network, new ones or trained.
        """

        def one(path: str, leaf: Any) -> Any:
            if path not in self.switched:
                return leaf
            narrow = [structured.cut(self.graph, {path: leaf}, keep)[path] for keep in self.keeps]
            return {_name(number): array for number, array in enumerate(narrow)}

        return trees.map_with_path(one, variables)

    def apply(self, variables: Variables, *args: Any, width: float, **kwargs: Any) -> Any:
        """Returns what the network computes at one width.

        It works under jit and grad as the network itself does; gradients of shared weights are zero
        in the entries that the width lacks.

        Args:
          variables: see `init`.
          *args: as the network takes them.
          width: one of `widths`.
          **kwargs: as the network takes them; with `mutable`, the collections that have changed are
            returned too, and other widths' parts of them are as they were.

        Raises:
          ValueError: there is no such width, or the variables are another network's.
        """
        model, narrow = at(self, variables, width)
        outputs = network_lib.apply_of(model)(narrow, *args, **kwargs)
        if not kwargs.get("mutable"):
            return outputs
        answers, changed = outputs
        return answers, self._renewed(variables, changed, self.index(width))

    def plain(self, width: float) -> Any:
        """Returns the plain network of one width, without variables; see `at`.

        Raises:
          ValueError: there is no such width.
        """
        keep = self.keeps[self.index(width)]
        whole = all(units.all() for units in keep.values())
        return self.graph.model if whole else Narrowed(graph=self.graph, keep=keep)

    def index(self, width: float) -> int:
        """Returns the place of a width among all.

        Raises:
          ValueError: it is none of them.
        """
        if width not in self.widths:
            raise ValueError(f"width={width!r} must be one of {', '.join(map(str, self.widths))}")
        return self.widths.index(width)

    def leaves(self, variables: Variables) -> dict[str, Any]:
        """Returns path → array, or what each width has of it.

        Raises:
          ValueError: the variables are another network's.
        """
        structure: Any = jax.tree.structure(self.graph.shapes)
        try:
            given = structure.flatten_up_to(variables)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"the variables are another network's: {error}") from error
        flat = dict(zip(trees.flatten(self.graph.shapes), given, strict=True))
        names = {_name(number) for number in range(len(self.widths))}
        for path in self.switched:
            if not isinstance(flat[path], Mapping) or set(flat[path]) != names:
                raise ValueError(
                    f"{path} must have {', '.join(sorted(names))}: see Slimmable.begin"
                )
        return flat

    def _renewed(self, variables: Variables, changed: Any, number: int) -> Any:
        """Returns the collections that a width has changed, as those of all widths."""
        flat, new = self.leaves(variables), trees.flatten(changed)
        for path in new.keys() & self.switched:
            flat[path] = {**flat[path], _name(number): new[path]}
        whole = trees.unflatten(flat, self.graph.shapes)
        return {name: whole.get(name, tree) for name, tree in changed.items()}


def make(
    model: Any, example: Any, widths: Sequence[float], *, variables: Shapes | None = None
) -> Slimmable:
    """Returns a network that can be called at several widths.

    A width keeps the first round(width × U) units of each group of U. Inputs and outputs stay, and
    so does what cannot be narrowed, which `graph.frozen` lists with the reasons. Each width has
    statistics of its own, and own parameters of one axis in the layers that have statistics, as
    BatchNorm's scale and offset are; norms without statistics, such as LayerNorm, are shared.

    Training minimises the sum of all widths' losses at each step (the source's Algorithm 1).

    Args:
      model: any network that `pruning.structured.groups` takes.
      example: inputs [B, …], arrays or shapes; or the shape of one example of floats.
      widths: numbers in (0, 1] that grow and end with 1.
      variables: of the network, arrays or shapes; by default those that its `init` makes.

    Raises:
      ValueError: widths are wrong, a group would lose all of its units, or the network does not
        take the example or has nothing that can be narrowed.

    Example:
        >>> from msdnet import slimmable
        >>> network = lambda variables, x: jax.nn.relu(x @ variables["first"]) @ variables["last"]
        >>> variables = {"first": jnp.ones((1, 4)), "last": jnp.ones((4, 1))}
        >>> slim = slimmable.make(network, jnp.ones((1, 1)), (0.5, 1.0), variables=variables)
        >>> [slim.apply(variables, jnp.ones((1, 1)), width=width).item() for width in slim.widths]
        [2.0, 4.0]
    """
    chosen = widths_lib.check(widths)
    if variables is None:
        if not hasattr(model, "init"):
            raise ValueError("this network is a function and has no init: give its variables")
        inputs = trees.zeros(trees.example(example))
        try:
            variables = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
        except TypeError as error:
            raise ValueError(
                f"the network cannot be called with its inputs alone ({reason(error)}): give "
                "groundwork.architectures.own.of(model), which knows flags such as train"
            ) from error
    graph = structured.groups(model, variables, example)
    keeps = widths_lib.keeps(graph, chosen)
    return Slimmable(graph=graph, widths=chosen, keeps=keeps, switched=_switched(graph.shapes))


def at(network: Slimmable, variables: Variables, width: float) -> tuple[Any, Variables]:
    """Returns the plain network of one width, and its variables.

    It computes what the slimmable one does at that width, bit for bit, and is a network like any
    other that was narrowed: for `deploy`, `compress`, counts of multiply-adds, or training alone.

    Args:
      network: see `make`.
      variables: of all widths.
      width: one of its widths; 1 gives the network that it was made of.

    Raises:
      ValueError: there is no such width, or the variables are another network's.

    Example:
        >>> from msdnet import slimmable
        >>> network = lambda variables, x: jax.nn.relu(x @ variables["first"]) @ variables["last"]
        >>> variables = {"first": jnp.ones((1, 4)), "last": jnp.ones((4, 1))}
        >>> slim = slimmable.make(network, jnp.ones((1, 1)), (0.5, 1.0), variables=variables)
        >>> narrow, own = slimmable.at(slim, variables, width=0.5)
        >>> jax.tree.map(jnp.shape, own), narrow.apply(own, jnp.ones((1, 1))).item()
        ({'first': (1, 2), 'last': (2, 1)}, 2.0)
    """
    number, graph = network.index(width), network.graph
    flat, keep = network.leaves(variables), network.keeps[number]
    shared = {path: leaf for path, leaf in flat.items() if path not in network.switched}
    own = {path: flat[path][_name(number)] for path in network.switched}
    narrow = trees.unflatten({**structured.cut(graph, shared, keep), **own}, graph.shapes)
    return network.plain(width), narrow


def _name(number: int) -> str:
    """Returns the name of a width's own part of a variable."""
    return f"width_{number}"


def _switched(shapes: Shapes) -> frozenset[str]:
    """Returns the paths of statistics, and of parameters with one axis that stand beside them."""
    if not network_lib.has_collections(shapes):
        return frozenset()
    flat = trees.flatten(shapes)
    statistics = {path for path in flat if path.partition("/")[0] != "params"}
    layers = {path.partition("/")[2].rpartition("/")[0] for path in statistics}
    beside = {
        path
        for path, leaf in flat.items()
        if path not in statistics
        and len(leaf.shape) == 1
        and path.removeprefix("params/").rpartition("/")[0] in layers
    }
    return frozenset(statistics | beside)
