"""What training asks of every compact network; shapes alone are computed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from groundwork.architectures import MODELS, build

PRODUCTS = ("convolution", "conv_general_dilated", "dot_general")
SMALL = (
    "efficientnet_b0_small",
    "efficientnet_lite0_small",
    "mobilenet_v1_small",
    "mobilenet_v2_small",
    "shufflenet_v1_small",
    "shufflenet_v2_small",
    "xception_small",
)


def flat(jaxpr):
    """All equations, those of functions inside too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from flat(value.jaxpr)


@pytest.mark.parametrize("name", SMALL)
def test_training_in_bfloat16_has_short_products_and_long_statistics_of_the_batch(name):
    width = min(getattr(MODELS[name], "widths", [0.1]))
    module = build({"name": name, "width": width, "dtype": "bfloat16"}, 7)

    def step(images):
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        return module.init_with_output(keys, images, train=True)

    frozen = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            frozen.append(context.module.use_running_average)
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((2, 3, *module.image), jnp.float32)  # two devices' shares
    trace = jax.make_jaxpr(jax.vmap(step, axis_name="data"), return_shape=True)
    with nn.intercept_methods(note):
        jaxpr, (logits, variables) = trace(images)
    assert frozen
    assert not any(frozen)
    assert (logits.shape, logits.dtype) == ((2, 3, 7), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    products = [eqn for eqn in flat(jaxpr.jaxpr) if eqn.primitive.name in PRODUCTS]
    assert not any(eqn.primitive.name == "conv_general_dilated" for eqn in products)
    assert {eqn.outvars[0].aval.dtype for eqn in products} == {jnp.dtype("bfloat16")}
    convolutions = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 5]
    assert len(products) == len(convolutions) + 1  # and the last layer
