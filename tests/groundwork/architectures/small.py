"""Tables over all models, and small models with their variables, for the tests here."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from groundwork.architectures import build, shapes
from tests.groundwork.architectures.references import CONV, RESNET, VGG

DENSE = ("lenet_300_100", "residual_mlp")
INPUT = {
    "lenet_300_100": (28, 28, 1),
    "lenet_5": (28, 28, 1),
    "residual_mlp": (40,),
    **dict.fromkeys([*CONV, *VGG, *RESNET, "student_net"], (32, 32, 3)),
}
PARAMETERS = {
    "conv_2": 4_301_642,  # Frankle & Carbin, Figure 2: 4.3 M
    "conv_4": 2_425_930,  # 2.4 M
    "conv_6": 2_262_602,  # it says 1.7 M, which is not what its own list of layers adds up to
    "lenet_300_100": 266_610,
    "lenet_5": 431_080,
    "residual_mlp": 276_010,
    "resnet_20": 269_722,  # He et al., Table 6: 0.27 M
    "resnet_32": 464_154,  # 0.46 M
    "resnet_56": 853_018,  # 0.85 M
    "student_net": 256_522,  # for 11 classes the 256,779 of its source
    "vgg_11": 9_228_362,
    "vgg_13": 9_413_066,
    "vgg_16": 14_724_042,
    "vgg_19": 20_035_018,  # Frankle & Carbin: 20.0 M; Liu et al., 1708.06519: 20.04 M
}
HIDDEN = {  # widths that the multiplier scales
    "conv_2": (64, 256, 256),
    "conv_4": (64, 128, 256, 256),
    "conv_6": (64, 128, 256, 256, 256),
    "lenet_300_100": (300, 100),
    "lenet_5": (20, 50, 500),
    "residual_mlp": (500, 500),
    "student_net": (16, 32, 64, 128, 256, 256, 256, 256),
    **dict.fromkeys(RESNET, (16, 32, 64)),
    **dict.fromkeys(VGG, (64, 128, 256, 512, 512)),
}
# One model a family where values are computed or programs compiled, at these widths.
WIDTHS = {
    "lenet_300_100": 1.0,
    "lenet_5": 1.0,
    "residual_mlp": 1.0,
    "conv_4": 0.25,
    "resnet_20": 0.5,
    "student_net": 0.5,
    "vgg_11": 0.125,
}
NORMED = ("resnet_20", "student_net", "vgg_11")


def section(name, width=1.0):
    return {"name": name, "width": width}


def quickly(function, **options):
    """`jax.jit` that optimises nothing: what runs once here compiles five times as fast."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


@functools.cache
def initializer(name):
    return quickly(build(section(name, WIDTHS[name]), 10).init)


def drawn(name, key=0):
    """Initial variables of one of `WIDTHS`, numpy float64."""
    variables = initializer(name)(jax.random.key(key), jnp.zeros((1, *INPUT[name])))
    return jax.tree.map(lambda x: np.asarray(x, float), variables)


initial = functools.cache(drawn)


def drawn_by_numpy(module, shape, seed=1):
    """Variables for examples of `shape`, none of them 0 or 1, so that a forgotten one is seen."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 2, leaf.shape)
        return rng.normal(size=leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5

    return jax.tree_util.tree_map_with_path(draw, shapes(module, shape))


def by_layer(tree, above=""):
    """Layer → its leaves, of a nested tree: {"block1_1/conv1": {"kernel": …}}."""
    for name, inner in tree.items():
        if isinstance(next(iter(inner.values())), dict):
            yield from by_layer(inner, f"{above}{name}/")
        else:
            yield above + name, inner


def inputs_for(name, batch=3):
    return np.random.default_rng(0).normal(size=(batch, *INPUT[name]))


def as_float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def logits(name, tree, inputs, width=None, jit=quickly, **kwargs):
    module = build(section(name, width or WIDTHS[name]), 10)
    return jit(functools.partial(module.apply, **kwargs))(as_float32(tree), as_float32(inputs))
