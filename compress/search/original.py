"""The trained network that a search compresses, and what is looked at of it. Read `Original`."""

# R replicates, G groups of channels, K inputs of a layer, M outputs

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.form import Form
from compress.search.layers import Found, find
from groundwork import keys, trees
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.train import networks
from groundwork.train.losses import CROSS_ENTROPY, Loss
from groundwork.trees import Shapes, Variables
from lowrank import factorization
from pruning import grams, structured
from pruning.criteria.evidence import Evidence
from pruning.masks import Mask
from pruning.structured import Scores

LOOKED_AT = 256  # training examples by what changes a layer, as by the stages
AT_ONCE = 1 << 20  # numbers of the network's inputs, whose patches are in memory together
LARGEST = 1024  # inputs of a layer whose pruned weights others make up for: each output is solved


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A trained network whose layers are its module's own.

    Attributes:
      model: the module, or one without some units.
      variables: [R, …], on the host.
      mask: path of a parameter → [R, …]; what it prunes is zero, and stays so. {} prunes nothing.
      dataset: on which it was trained; its first training examples are looked at.
      loss: by which it was trained.
      seed: of the run.
    """

    model: Any
    variables: Variables
    mask: Mask
    dataset: AnyDataset
    loss: Loss = CROSS_ENTROPY
    seed: int = 0

    @functools.cached_property
    def shapes(self) -> Shapes:
        """The shapes of one replicate's variables."""
        return jax.eval_shape(lambda: trees.replicate(self.variables, 0))

    @functools.cached_property
    def found(self) -> Found:
        """Its layers and units that may be changed."""
        return find(self.model, self.shapes, self.dataset.example)

    @functools.cached_property
    def largest(self) -> int:
        """The number of weights of the largest kernel."""
        return max(math.prod(layer.shape) for layer in self.found.layers.values())

    @functools.cached_property
    def replicates(self) -> list["Replicate"]:
        """Its replicates."""
        count = trees.replicates(self.variables)
        return [Replicate(original=self, number=number) for number in range(count)]

    @functools.cached_property
    def inputs(self) -> Any:
        """The first training examples, as the network takes them."""
        return data_lib.first_examples(self.dataset, LOOKED_AT)[0]


def of(form: Form, variables: Variables, mask: Mask, dataset: AnyDataset, **more: Any) -> Original:
    """Returns the original of a network between two stages.

    Args:
      form: how it computes.
      variables: see `Original`.
      mask: likewise.
      dataset: likewise.
      **more: `loss` and `seed`.

    Raises:
      ValueError: its layers are factorised or tied, or their inputs have few bits.
    """
    if form.plan or form.groups or form.activations:
        raise ValueError(
            "a network is searched whose layers are neither factorised, tied nor rounded"
        )
    return Original(model=form.model, variables=variables, mask=mask, dataset=dataset, **more)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Replicate:
    """One replicate of a network, and what its layers are given; each is computed once."""

    original: Original
    number: int

    # of `once`
    _kept: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    @functools.cached_property
    def variables(self) -> Variables:
        """Its variables, on the device."""
        return jax.tree.map(jnp.asarray, trees.replicate(self.original.variables, self.number))

    @functools.cached_property
    def mask(self) -> dict[str, np.ndarray]:
        """Path of a parameter → what is kept, on the host."""
        return {path: np.asarray(mask[self.number]) for path, mask in self.original.mask.items()}

    @functools.cached_property
    def key(self) -> jax.Array:
        """The key of its decompositions, which is that of `lowrank`."""
        root = keys.stream(jax.random.key(self.original.seed), "decompose")
        return jax.random.fold_in(root, self.number)

    @functools.cached_property
    def grams(self) -> Mapping[str, jax.Array]:
        """Layer → Xᵀ X of its inputs, [G, K, K], of the layers with at most `LARGEST` inputs."""
        few = [
            path
            for path, layer in self.original.found.layers.items()
            if math.prod(layer.kernel[:-1]) <= LARGEST
        ]
        return self._looked(grams.grams, few)

    @functools.cached_property
    def means(self) -> Mapping[str, jax.Array]:
        """Layer → the mean of each of its inputs, [G, K]."""
        return self._looked(grams.means, list(self.original.found.layers))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what a function makes, which is called once for each key."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def latest(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what a function makes; of several keys in turn, only the last one's is kept."""
        if self._kept.get(what, (None,))[0] != key:
            self._kept.pop(what, None)  # both would need memory at once
            self._kept[what] = (key, make())
        return self._kept[what][1]

    def rows(self, layer: str) -> jax.Array:
        """Returns what a layer is given, as `lowrank` looks at it."""
        model, one = self.original.model, {layer: self.original.found.layers[layer]}

        def make() -> jax.Array:
            return factorization.rows(model, self.variables, one, self.original.inputs)[layer]

        return self.latest("rows", layer, make)

    def scores(self, criterion: str) -> Scores:
        """Returns the scores of all units."""
        original = self.original
        graph = original.found.graph
        assert graph is not None

        def make() -> Scores:
            evidence: dict[str, Any] = {}
            if criterion in structured.LOOKS:
                seen = networks.seen(original.dataset, original.model, LOOKED_AT, original.loss)
                evidence["inputs"] = seen["examples"].inputs
                evidence["loss"] = lambda tree: seen["loss"](tree, seen["examples"])
            seed = original.seed + self.number
            return structured.scores(graph, self.variables, criterion, seed=seed, **evidence)

        return self.once(("scores", criterion), make)

    def _looked(self, measure: Any, paths: list[str]) -> dict[str, jax.Array]:
        """Returns layer → what a function of `pruning.grams` says of its inputs."""
        original, found = self.original, self.original.found.layers
        names = {path: f"params/{found[path].parameter}" for path in paths}
        names = {path: name for path, name in names.items() if not found[path].enclosed}
        if not names:
            return {}
        numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(original.inputs))
        evidence = Evidence(
            params=self.variables,
            mask={names[path]: jnp.ones(found[path].shape, bool) for path in names},
            apply=functools.partial(original.model.apply, train=False),
            examples=original.inputs,
            batch_size=max(1, AT_ONCE * LOOKED_AT // max(numbers, 1)),
        )
        measured = measure(evidence)
        return {path: measured[name] for path, name in names.items()}
