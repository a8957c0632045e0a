"""Early exits on any network: classifiers at the outputs of its layers. Read `attach` first.

Source: classifiers at intermediate layers, Teerapittayanon et al., arXiv:1709.01686 (BranchyNet);
for a ResNet, Huang et al., arXiv:1703.09844, Section 5.1.
Departs: heads of images are an average and a linear layer by default.
"""

# B batch, L tokens, K exits

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from groundwork import architectures, named
from groundwork.architectures import own
from groundwork.errors import shown
from groundwork.trees import Variables
from msdnet.with_heads import BACKBONE, WithHeads


def attach(model: Any, layers: Sequence[str], classes: int, *, head: int = 0) -> WithHeads:
    """Returns a network with exits: classifiers on layers of a network, and its own output last.

    All of `msdnet` takes it as it takes `MSDNet`. Its variables have those of the network at
    `params/backbone`, `batch_stats/backbone` and so on, and the heads at `params/classifier_0` and
    so on; `with_backbone` puts trained ones there. `groundwork.traced.cut` says where a layer's
    output is taken: `bn4_2` of a VGG after its ReLU, `block2_3` of a ResNet after the sum.

    Args:
      model: a Linen module; an NNX module's class, or a function `rngs` → module; an object or a
        tuple (init, apply) of functions, (key, inputs) → parameters and (parameters, inputs) →
        outputs, such as those of an Equinox module; or a network of `architectures.build`. It gives
        logits [B, classes], or [B, L, classes] for tokens.
      layers: K − 1 names of layers as masks have them, in the order of the computation: `conv1`,
        `block2/conv1`, or `block2` for all of a block.
      classes: of the network's own output.
      head: channels of two 3×3 convolutions of stride 2 before the average, as MSDNet's
        classifiers have them; 0 = none. For images alone.

    Raises:
      ValueError: the arguments are no such things; or, when the network is first traced, there is
        no such layer, no cut can be made at it, or the network has other outputs.

    Example:
        >>> import flax.linen as nn
        >>> from msdnet import heads
        >>> model = heads.attach(nn.Sequential([nn.Dense(8), nn.Dense(3)]), ["layers_0"], classes=3)
        >>> inputs = jnp.ones((5, 4))
        >>> variables = model.init(jax.random.key(0), inputs)
        >>> sorted(variables["params"])
        ['backbone', 'classifier_0']
        >>> [logits.shape for logits in model.apply(variables, inputs)]
        [(5, 3), (5, 3)]
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"layers={shown(names)} must name at least one layer, such as ('conv1',)")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"layers={shown(names)} name {twice[0]!r} more than once")
    for key, given, least in (("classes", classes, 1), ("head", head, 0)):
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            raise ValueError(f"{key}={shown(given)} must be an integer, at least {least}")
    return WithHeads(_own(model), names, classes, head)


def with_backbone(fresh: Variables, trained: Variables) -> dict[str, Any]:
    """Returns the variables of a network with heads, whose backbone is a trained network's.

    Args:
      fresh: from the `init` of what `attach` gives; its heads are kept.
      trained: variables of the network alone: collection → tree.

    Raises:
      ValueError: the trained variables are of another network.

    Example:
        >>> from msdnet import heads
        >>> fresh = {"params": {"backbone": {"kernel": 0.0}, "classifier_0": {"kernel": 7.0}}}
        >>> heads.with_backbone(fresh, trained={"params": {"kernel": 5.0}})
        {'params': {'backbone': {'kernel': 5.0}, 'classifier_0': {'kernel': 7.0}}}
    """
    kinds = {name: tree[BACKBONE] for name, tree in fresh.items() if BACKBONE in tree}
    if jax.tree.map(jnp.shape, kinds) != jax.tree.map(jnp.shape, dict(trained)):
        raise ValueError("the trained variables are not those of the network that has the heads")
    return {
        name: {**tree, BACKBONE: trained[name]} if name in kinds else tree
        for name, tree in fresh.items()
    }


def from_section(
    classes: int, model: Mapping[str, Any], layers: tuple[str, ...], head: int = 0
) -> WithHeads:
    """Returns what a config's section says: its `model` section, names of layers, and the heads.

    Raises:
      UserError: there is no such model.
      ValueError: `attach` refuses the rest.

    Example:
        >>> from msdnet import heads
        >>> model = heads.from_section(10, {"name": "lenet_300_100"}, layers=("fc1", "fc2"))
        >>> model.exits, model.layers
        (3, ('fc1', 'fc2'))
    """
    return attach(architectures.build(model, classes), layers, classes, head=head)


def _own(model: Any) -> own.Own:
    """Returns a network behind `init` and `apply`; equal for equal modules."""
    if isinstance(model, own.Own):
        return model
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        pair = SimpleNamespace(init=model[0], apply=model[1])
        return dataclasses.replace(own.of(pair), arguments=model)
    if inspect.isclass(model) and issubclass(model, nn.Module):
        raise ValueError(f"give a module, {model.__name__}(…), not its class")
    if not isinstance(model, nn.Module) and not hasattr(model, "apply"):
        from flax import nnx  # which takes long to import

        if isinstance(model, nnx.Module):
            raise ValueError("give the NNX module's class, or a function rngs → module")
        if "rngs" in named.parameters(model):
            return _of_nnx(model)
    made = own.of(model)
    try:
        hash(model)
    except TypeError:
        return made
    return dataclasses.replace(made, arguments=model)


def _of_nnx(model: Callable[..., Any]) -> own.Own:
    """Returns a network that makes an NNX module from random keys."""
    from groundwork.architectures.own import nnx

    def make(rngs: Any) -> Any:
        return model(rngs=rngs)

    name = getattr(model, "__name__", "NNX module")
    return own.Own(name, model, {"call": {}}, *nnx.functions(make, {}))
