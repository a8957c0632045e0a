"""EfficientNet beyond its counts and the logits of its peers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from groundwork.architectures import build
from groundwork.architectures.compact.efficientnet import Compound, EfficientNetB0Small, compound
from groundwork.architectures.initializers import in_eights
from groundwork.errors import UserError


def test_compound_scaling_is_the_papers():
    assert compound("b0") == compound(0) == Compound(1, 1, 224, 0.2)
    assert compound("b3") == Compound(1.2, 1.4, 300, 0.3)
    assert compound("b7") == Compound(2.0, 3.1, 600, 0.5)
    width, depth, resolution, dropout = compound(1)
    assert depth * width**2 * (resolution / 224) ** 2 == pytest.approx(
        1.2 * 1.21 * 1.3225, rel=0.01
    )
    assert dropout == pytest.approx(0.2 + 0.3 / 7)
    with pytest.raises(ValueError, match=r"'b8' is no EfficientNet: take one of b0, .*b7"):
        compound("b8")
    with pytest.raises(ValueError, match="must be at least 0"):
        compound(-1)


def test_channels_are_multiples_of_8_never_less_than_nine_tenths():
    """Sandler et al.'s widths: 24 × 0.35 = 8.4; 16 × 0.75 = 12 up; 32 × 1.4 = 44.8."""
    widths = [(24, 0.35), (16, 0.75), (32, 1.4), (1280, 1.4), (11, 1.0), (1, 1e-6)]
    assert [in_eights(*one) for one in widths] == [8, 16, 48, 1792, 16, 8]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("depth", 0, r"depth=0\.0 must be positive"),
        ("dropout", 1.0, r"dropout=1\.0 must be at least 0 and less than 1"),
        ("stochastic_depth", -0.1, r"stochastic_depth=-0\.1 must be"),
        ("activation", "swish", r"activation='swish' is none of relu6, relu"),
    ],
)
def test_wrong_settings_are_refused(key, value, said):
    with pytest.raises(UserError, match=said):
        build({"name": "efficientnet_lite0", key: value}, 10)


def test_training_is_as_published():
    """A block is dropped by the share of blocks before it, times `stochastic_depth`."""
    module = EfficientNetB0Small(3, width=0.1, depth=0.5, stochastic_depth=0.4)
    rates, momenta = [], set()

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout) and not context.module.deterministic:
            rates.append(context.module.rate)
        if isinstance(context.module, nn.BatchNorm):
            momenta.add(context.module.momentum)
        return call(*args, **kwargs)

    def step(inputs):
        key = jax.random.key(0)
        return module.init_with_output({"params": key, "dropout": key}, inputs, train=True)

    with nn.intercept_methods(note):
        inputs = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
        jax.eval_shape(jax.vmap(step, axis_name="data"), inputs)
    assert [stage.blocks for stage in module.stages()] == [1, 1, 1, 2, 2, 2, 1]
    assert momenta == {0.99}
    residual = [0, 1, 4, 6, 8]  # of ten: strides 1, as many outputs as inputs
    assert rates == pytest.approx([0.4 * block / 10 for block in residual] + [0.2])
