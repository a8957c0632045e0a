"""One trace everywhere, what it becomes on each platform, and what oneDNN is called with."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from groundwork import architectures
from groundwork.architectures.cpu import library
from groundwork.architectures.cpu.convolution import available, conv_general_dilated
from groundwork.architectures.cpu.geometry import Geometry
from groundwork.architectures.cpu.primitive import convolution_p
from groundwork.train import replicates as mapping
from tests.groundwork.architectures.cpu.onednn import (
    decide_again,
    energy,
    needs_onednn,
    normal,
    ours,
    plain,
    text,
    theirs,
)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
        x = conv(8, (3, 3), 2)(x)
        x = conv(16, (3, 3), feature_group_count=8, kernel_dilation=2)(x)
        return nn.Dense(3)(x.mean((1, 2)))


def convolutions(function, *arguments):
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return [e for e in jaxpr.eqns if e.primitive is convolution_p], str(jaxpr)


def test_a_trace_and_its_multiply_adds_are_the_same_with_and_without(monkeypatch):
    x = jnp.zeros((2, 8, 8, 4))
    variables = jax.eval_shape(Network().init, jax.random.key(0), x)
    traces = set()
    for switch in ("onednn", "xla"):
        monkeypatch.setenv(library.SWITCH, switch)
        decide_again()
        found, printed = convolutions(Network().apply, variables, x)
        traces.add(printed)
        # N × OH × OW × O × KH × KW × C / groups, by hand
        assert [e.params["geometry"].multiply_adds for e in found] == [
            2 * 4 * 4 * 8 * 3 * 3 * 4,
            2 * 4 * 4 * 16 * 3 * 3 * 1,
        ]
    decide_again()
    assert len(traces) == 1


@pytest.mark.parametrize("where", ["cuda", "tpu"])
@pytest.mark.parametrize("mapped", [False, True])
def test_gpu_and_tpu_get_the_convolutions_of_lax(where, mapped):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 3, 2, 6)
    options = {"feature_group_count": 2, "strides": (2, 1), "precision": "highest"}
    lines = []
    for conv in (conv_general_dilated, lax.conv_general_dilated):
        step = jax.value_and_grad(energy(plain(conv, **options)), (0, 1))
        step = jax.vmap(step) if mapped else step
        arguments = (x, w) if mapped else (x[0], w[0])
        lowered = text(step, *arguments, platform=where)
        assert library.TARGET not in lowered
        found = re.findall(r"stablehlo\.convolution\(.*?\) (dim_numbers.*)", lowered)
        lines.append(sorted(found))
    assert len(lines[0]) == 3
    assert lines[0] == lines[1]


def test_the_default_precision_reaches_gpus():
    x, w = normal(2, 6, 6, 4), normal(3, 3, 4, 6)
    for conv in (ours, theirs):
        with jax.default_matmul_precision("highest"):
            traced = jax.jit(jax.grad(energy(conv), (0, 1))).trace(x, w)
        lowered = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert len(re.findall("precision.{0,3}HIGHEST", lowered)) == 6


@needs_onednn
@pytest.mark.parametrize("refused", range(3))
def test_a_convolution_is_onednns_in_all_roles_or_in_none(refused, monkeypatch):
    monkeypatch.setattr(library, "implementation", lambda fields: (fields[0] != refused, ""))
    lowered = text(jax.grad(energy(ours), (0, 1)), normal(2, 6, 6, 4), normal(3, 3, 4, 6))
    assert library.TARGET not in lowered


# what oneDNN is called with

SMALL = Geometry(
    input=(2, 6, 6, 4),
    kernel=(3, 3, 4, 6),
    output=(2, 4, 4, 6),
    strides=(1, 1),
    padding=((0, 0), (0, 0)),
    dilation=(1, 1),
    groups=1,
    precision=None,
)


def call_onednn(geometry=SMALL, mapped=(0, 0), replicates=1, dtype="float32", change=None):
    descriptor = geometry.descriptor("output", 32)
    descriptor = change(descriptor) if change else descriptor
    call = jax.ffi.ffi_call(
        library.TARGET, jax.ShapeDtypeStruct((replicates * 2, 4, 4, 6), jnp.float32)
    )
    attributes = {"replicates": np.int64(replicates), "mapped": np.array(mapped, np.int64)}
    return call(
        jnp.ones((2, 6, 6, 4), dtype),
        jnp.ones((3, 3, 4, 6), dtype),
        descriptor=descriptor,
        **attributes,
    )


def put(field, value):
    def change(descriptor):
        descriptor[field] = value
        return descriptor

    return {"change": change}


@needs_onednn
@pytest.mark.parametrize(
    "wrong",
    [
        {"geometry": SMALL.of_batch(3)},
        {"geometry": SMALL._replace(kernel=(3, 3, 4, 5))},
        {"mapped": (1, 0), "replicates": 2},
        {"mapped": ()},
        {"dtype": "bfloat16"},
        put(0, 3),
        put(0, -1),
        put(1, 8),
        put(2, -2),
        put(-1, 0),
        put(11, 0),
        {"change": lambda descriptor: descriptor[:-1]},
    ],
)
def test_what_does_not_fit_its_descriptor_is_an_error(wrong):
    assert available()
    assert call_onednn().shape == (2, 4, 4, 6)
    with pytest.raises((RuntimeError, ValueError), match="descriptor"):
        jax.block_until_ready(call_onednn(**wrong))


@needs_onednn
def test_plain_loops_of_onednns_are_not_counted_as_fast():
    geometry = Geometry(
        input=(2, 2, 3, 4),
        kernel=(5, 8, 4, 1),
        output=(2, 7, 4, 1),
        strides=(1, 2),
        padding=((5, 4), (6, 5)),
        dilation=(1, 1),
        groups=1,
        precision=None,
    )
    fast, name = library.implementation(tuple(geometry.descriptor("input", 16).tolist()))
    if not name.startswith("ref"):
        pytest.skip("this CPU has fast code for it, or none at all")
    assert not fast


def test_a_models_form_follows_what_computes_its_convolutions(by):
    for model, example in (
        (Network(), jnp.zeros((1, 8, 8, 4))),
        (architectures.build({"name": "lenet_5"}, 10), jnp.zeros((1, 28, 28, 1))),
    ):
        assert mapping.default_form(model, example) == ("looped" if by == "onednn" else "single")
