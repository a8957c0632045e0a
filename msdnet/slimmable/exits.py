"""Widths as exits: a slimmable network, and its control, as `ExitNetwork`s."""

# B batch, K widths

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import freeze, unfreeze

from groundwork import architectures, named, trees
from groundwork.architectures import own
from groundwork.architectures.own import Own
from groundwork.errors import about
from groundwork.traced import network as network_lib
from groundwork.trees import Shapes, count
from msdnet import slimmable
from msdnet.exit_network import ExitNetwork, Features
from msdnet.slimmable.network import Slimmable

CHANGING = ("batch_stats",)  # collections that training changes


class Widths(ExitNetwork):
    """Networks of K widths: exit k is the answer of the k-th, which needs no earlier one.

    Attributes:
      classes: number of classes.
      model: the config's section of the whole network; see `architectures.ModelSpec`.
      widths: shares of its units, growing, the last 1.
    """

    classes: int
    model: Mapping[str, Any]
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    alone = True

    def __post_init__(self) -> None:
        """The section becomes the whole network: within a Linen module none can be made."""
        if isinstance(self.model, Mapping):
            network: Any = _built(freeze(named.as_tuples(self.model)), self.classes)
            self.model = network
        super().__post_init__()

    @property
    def exits(self) -> int:
        with about("slimmable"):
            return len(slimmable.check(self.widths))

    def advance(self, k: int, features: Features, train: bool = False) -> jax.Array:
        return features

    def _network(self, shape: tuple[int, ...]) -> Slimmable:
        """Returns the network of all widths for images of a shape [H, W, C]."""
        return _made(self.model, self.widths, tuple(shape))

    def _own(self) -> dict[str, Any]:
        """Returns this module's variables, as a tree of dicts."""
        variables: Any = self.variables
        return dict(unfreeze(variables))

    def _called(self, network: Any, variables: Any, images: jax.Array, train: bool) -> Any:
        """Returns a network's logits, and what training changes of its variables."""
        apply = network_lib.apply_of(network)
        if not train:
            return apply(variables, images, train=False), {}
        rngs = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else None
        return apply(variables, images, train=True, mutable=list(CHANGING), rngs=rngs)


class SlimmableWidths(Widths):
    """A slimmable network; each width is trained at every step.

    With `exits.distillation`, narrower widths also learn the widest one's answers, as the inplace
    distillation of Yu & Huang, arXiv:1903.05134, beside the labels and not instead of them.
    Source: Yu et al., arXiv:1812.08928. See `slimmable.make`.
    """

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        network = self._network(features.shape[1:])
        if self.is_initializing() and not k:
            self._put(network.init(self.make_rng("params"), features))
        called = functools.partial(network.apply, width=self.widths[k])
        logits, changed = self._called(called, self._own(), features, train)
        self._put(changed)
        return logits

    @nn.nowrap
    def parameters_of(self, variables: Shapes, example: Any) -> list[tuple[int, int]]:
        at = functools.partial(slimmable.at, self._network(example.shape[1:]))
        narrow = [
            jax.eval_shape(lambda variables, width=width: at(variables, width)[1], variables)
            for width in self.widths
        ]
        return [(0, count(each["params"])) for each in narrow]

    def _put(self, variables: Mapping[str, Any]) -> None:
        for collection, tree in variables.items():
            for name, part in tree.items():
                self.put_variable(collection, name, part)


class SeparateWidths(Widths):
    """The same widths as networks of their own, each trained by its own loss alone.

    Each begins with the first entries of new weights, scaled as in a network that is built narrow.
    """

    def classify(self, k: int, features: Features, train: bool = False) -> jax.Array:
        network, name = self._network(features.shape[1:]), f"classifier_{k}"
        model = network.plain(self.widths[k])
        if self.is_initializing():
            for collection, tree in model.init(self.make_rng("params"), features).items():
                self.put_variable(collection, name, tree)
        its_own = {key: tree[name] for key, tree in self._own().items() if name in tree}
        logits, changed = self._called(model, its_own, features, train)
        for collection, tree in changed.items():
            self.put_variable(collection, name, tree)
        return logits


@functools.lru_cache(maxsize=64)
def _built(section: Mapping[str, Any], classes: int) -> Own:
    """Returns the whole network; the same one for the same section, so that it is compiled once.

    Raises:
      UserError: the section is wrong.
    """
    model = architectures.build({"model": named.as_tuples(section)}, classes)
    return model if isinstance(model, Own) else own.of(model)


@functools.lru_cache(maxsize=64)
def _made(model: Any, widths: tuple[float, ...], shape: tuple[int, ...]) -> Slimmable:
    """Returns the network of all widths.

    Raises:
      UserError: the widths are wrong, or do not fit the network.
    """
    shapes = architectures.shapes(model, shape)
    with about("slimmable"):
        return slimmable.make(model, trees.example(shape), widths, variables=shapes)
