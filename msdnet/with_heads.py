"""A network with classifiers on its layers, block by block; `heads.attach` makes it."""

# B batch, H W image, L tokens, F features, K exits

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import trees
from groundwork.architectures import layers as layers_lib
from groundwork.architectures.own import Own
from groundwork.traced import cut as cut_lib
from groundwork.traced import network as network_lib
from groundwork.traced.cut import Cut
from groundwork.trees import Shapes, Variables
from msdnet.blocks import Classifier
from msdnet.exit_network import ExitNetwork

BACKBONE = "backbone"  # where the variables of the network itself stand
Place = tuple[str, str]  # collection and path of a variable


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "answer"],
    meta_fields=["example", "outputs"],
)
@dataclasses.dataclass(frozen=True)
class Between:
    """What one block hands on to the next.

    Attributes:
      values: arrays [B, …] that later blocks take.
      answer: what the block's classifier takes; None after it.
      example: structure, shapes and dtypes of one of the network's examples.
      outputs: shape of the logits of one example: [classes], or [L, classes].
    """

    values: tuple[jax.Array, ...]
    answer: Any
    example: Any
    outputs: tuple[int, ...]


class Head(nn.Module):
    """A classifier: linear on each token, or on the average over pixels or tokens.

    [B, L, F] → [B, L, classes] where the network itself gives logits of each token; otherwise
    [B, H, W, F], [B, L, F] or [B, F] → [B, classes].
    """

    classes: int
    channels: int  # of two convolutions before the average; 0 = none

    @nn.compact
    def __call__(self, x: jax.Array, outputs: tuple[int, ...], train: bool) -> jax.Array:
        """A layer's output [B, …], and the shape of one example's logits → logits."""
        is_image, is_text = x.ndim == 4, len(outputs) == 2
        if is_image and self.channels and not is_text:
            return Classifier(self.classes, self.channels, x.dtype, name="small")((x,), train)
        fits = x.shape[1:-1] == outputs[:-1] if is_text else x.ndim in (2, 3, 4)
        if not fits or self.channels:
            kind = "a head with convolutions" if self.channels else "a head"
            raise ValueError(
                f"{kind} cannot give logits {list(outputs)} from a layer's output "
                f"{list(x.shape[1:])} of each example"
            )
        if not is_text:
            x = layers_lib.global_average(x) if is_image else jnp.mean(x, range(1, x.ndim - 1))
        dense = nn.Dense(self.classes, dtype=x.dtype, kernel_init=layers_lib.he, name="output")
        return dense(x)


class WithHeads(ExitNetwork):
    """A network with classifiers on its layers; see `heads.attach`, which makes it.

    In training, random numbers are drawn once for all blocks, and statistics change in the block
    that computes what they are of.

    Attributes:
      network: the network itself.
      layers: names of K − 1 layers.
      classes: number of classes.
      head: channels of the heads' convolutions; 0 = none.
    """

    network: Own
    layers: tuple[str, ...]
    classes: int
    head: int = 0

    any_inputs: ClassVar[bool] = True

    def setup(self) -> None:
        """Make the heads, and room for what is traced once in a call."""
        self.classifier = [Head(self.classes, self.head) for _ in self.layers]
        self.traced = _Traced()

    @property
    def exits(self) -> int:
        return len(self.layers) + 1

    def block(self, k: int, features: Any, train: bool = False) -> tuple[Between, jax.Array]:
        after = self.advance(k, features, train)
        return dataclasses.replace(after, answer=None), self.classify(k, after, train)

    def advance(self, k: int, features: Any, train: bool = False) -> Between:
        if self.is_initializing() and not self.has_variable("params", BACKBONE):
            for name, tree in self.network.init(self.make_rng("params"), features).items():
                self.put_variable(name, BACKBONE, tree)
        backbone = self._backbone(train)
        example = features.example if k else _example(features)
        values = features.values if k else tuple(jax.tree.leaves(features))
        if train and self.traced.key is None and self.has_rng("dropout"):
            self.traced.key = self.make_rng("dropout")
        key = self.traced.key if train else None
        inputs = _batch(example, values[0])
        made, places = self.traced.cut(self, backbone, key, inputs, train)
        answer, values, changed = cut_lib.run(made, k, backbone, key, values)
        self._update({places[number]: value for number, value in changed.items()})
        outputs = tuple(made.parts[-1].answer.aval.shape[1:])
        return Between(values, answer, example, outputs)

    def classify(self, k: int, features: Between, train: bool = False) -> jax.Array:
        last = k == len(self.layers)
        if last:
            return features.answer
        return self.classifier[k](features.answer, features.outputs, train)

    @nn.nowrap
    def parameters_of(self, variables: Shapes, example: Any) -> list[tuple[int, int]]:
        backbone = {name: tree[BACKBONE] for name, tree in variables.items() if BACKBONE in tree}
        made, _ = _cut(self, backbone, None, example, train=False)
        met = [part.parameters for part in made.parts]
        sizes = {path: leaf.size for path, leaf in trees.flatten(backbone["params"]).items()}
        met[-1] |= sizes.keys() - frozenset().union(*met)
        params = variables["params"]
        heads = [trees.count(params.get(f"classifier_{k}", {})) for k in range(self.exits)]
        blocks = [sum(sizes[path] for path in paths) for paths in met]
        return list(zip(blocks, heads, strict=True))

    def _backbone(self, train: bool) -> Variables:
        """Returns the network's own variables: in training, for all blocks as they came in.

        A block may compute anew what an earlier one has changed, such as a counter of steps.
        """
        if train and self.traced.backbone is not None:
            return self.traced.backbone
        names = [name for name in self.variables if self.has_variable(name, BACKBONE)]
        held: Variables = {name: self.get_variable(name, BACKBONE) for name in names}
        # A copy, since Flax puts new leaves into the dictionaries that it has given.
        self.traced.backbone = jax.tree.map(lambda leaf: leaf, held)
        return self.traced.backbone

    def _update(self, changed: Mapping[Place, jax.Array]) -> None:
        """Put statistics that have changed into the variables, where these may change."""
        for name in {name for name, _ in changed if self.is_mutable_collection(name)}:
            tree: Any = self.get_variable(name, BACKBONE)
            new = {path: value for (of, path), value in changed.items() if of == name}
            self.put_variable(
                name,
                BACKBONE,
                trees.map_with_path(lambda path, old, new=new: new.get(path, old), tree),
            )


class _Traced:
    """What stays while a network with heads is called: its random key, variables and cuts."""

    def __init__(self) -> None:
        self.key: Any = None
        self.backbone: Variables | None = None
        self._cuts: dict[Any, tuple[Cut, list[Place]]] = {}

    def cut(
        self, model: WithHeads, variables: Variables, key: Any, inputs: Any, train: bool
    ) -> tuple[Cut, list[Place]]:
        kind = (train, *_example(inputs), jax.tree.leaves(inputs)[0].shape[0])
        if kind not in self._cuts:
            self._cuts[kind] = _cut(model, variables, key, inputs, train)
        return self._cuts[kind]


def _cut(
    model: WithHeads, variables: Variables, key: Any, inputs: Any, train: bool
) -> tuple[Cut, list[Place]]:
    """Returns the cut network, and which variables it changes in training."""
    places: list[Place] = []

    def apply(variables: Variables, key: Any, inputs: Any) -> tuple[Any, Any]:
        changed: Any = {}
        if train:
            how: Any = {
                "mutable": ["batch_stats"],
                "rngs": None if key is None else {"dropout": key},
            }
            outputs, changed = model.network.apply(variables, inputs, train=True, **how)
        else:
            outputs = model.network.apply(variables, inputs, train=False)
        shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(outputs)]
        fits = len(shapes) == 1 and len(shapes[0]) in (2, 3) and shapes[0][-1] == model.classes
        if not fits:
            raise ValueError(
                f"the network gives {shapes}, not logits [B, {model.classes}] of classes, or "
                f"[B, L, {model.classes}] of tokens"
            )
        flat = {name: trees.flatten(tree) for name, tree in changed.items()}
        places.extend((name, path) for name, leaves in flat.items() for path in leaves)
        return outputs, [leaf for leaves in flat.values() for leaf in leaves.values()]

    return cut_lib.cut(apply, variables, key, inputs, model.layers), places


def _example(inputs: Any) -> tuple[Any, ...]:
    """Returns structure, shapes and dtypes of one example of inputs [B, …]; it can be hashed."""
    leaves, structure = jax.tree.flatten(inputs)
    return structure, tuple((tuple(leaf.shape[1:]), str(leaf.dtype)) for leaf in leaves)


def _batch(example: tuple[Any, ...], like: jax.Array) -> Any:
    """Returns shapes of as many examples as an array [B, …] has, that vary over devices as it does.

    Without that, a mean over devices would be traced as one over equal numbers.
    """
    structure, leaves = example
    shapes = [
        network_lib.shape_like(like, (len(like), *shape)).update(dtype=jnp.dtype(dtype))
        for shape, dtype in leaves
    ]
    return jax.tree.unflatten(structure, shapes)
