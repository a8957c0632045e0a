"""Convolutions inside `scan`, `grad`, `vmap`, `shard_map`, threads and long loops."""

import concurrent.futures
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.groundwork.architectures.cpu.onednn import (
    assert_near,
    energy,
    needs_onednn,
    normal,
    ours,
    text,
    theirs,
)
from tests.groundwork.architectures.small import quickly


def test_inside_scan_and_remat_and_with_strided_inputs(by):
    x, w = normal(5, 2, 7, 6, 4), normal(3, 3, 4, 4) / 6  # steps that do not amplify last bits

    def train(conv):
        def step(w, x):
            turned = jnp.swapaxes(x, 1, 2)[:, ::-1]
            loss = jax.checkpoint(lambda w: energy(conv)(conv(turned, w), w))
            return w - 0.01 * jax.grad(loss)(w), loss(w)

        return quickly(lambda: lax.scan(step, w, x))()

    assert_near(train(ours), train(theirs))


def test_numpy_views_that_are_not_contiguous(by):
    x = np.asarray(normal(8, 2, 12, 4)).transpose(1, 0, 2, 3)[:, :, ::2]
    w = np.asarray(normal(6, 4, 3, 3)).transpose(2, 3, 1, 0)
    assert not x.flags.c_contiguous
    assert_near(quickly(ours)(x, w), theirs(x, w))


def test_second_derivatives_and_forward_mode(by):
    x, w = normal(2, 6, 6, 3), normal(3, 3, 3, 4)

    def second(conv):
        def squares(x, w):
            return sum(jnp.sum(g**2) for g in jax.grad(energy(conv), (0, 1))(x, w))

        return quickly(jax.grad(squares, (0, 1)))(x, w)

    assert_near(second(ours), second(theirs))
    tangents = normal(*x.shape), normal(*w.shape)
    forward = [quickly(lambda c=c: jax.jvp(c, (x, w), tangents))() for c in (ours, theirs)]
    assert_near(*forward)


AXES = [(0, None), (None, 0), (0, 0)]


def without(axes, x, w, at):
    """The first of an axis that is not mapped."""
    return x if axes[0] == 0 else x.take(0, at), w if axes[1] == 0 else w.take(0, at)


@pytest.mark.parametrize("axes", AXES)
def test_vmap_of_gradients_and_gradients_of_vmap(axes, by):
    x, w = without(axes, normal(3, 2, 6, 6, 4), normal(3, 3, 3, 4, 4), 0)

    def compute(conv):
        mapped = jax.vmap(jax.grad(energy(conv), (0, 1)), in_axes=axes)

        def total(x, w):
            return jnp.sum(jnp.sin(jax.vmap(conv, in_axes=axes)(x, w)))

        return quickly(lambda x, w: (mapped(x, w), jax.grad(total, (0, 1))(x, w)))(x, w)

    assert_near(compute(ours), compute(theirs))


@pytest.mark.parametrize("outer", AXES)
@pytest.mark.parametrize("inner", AXES)
def test_vmap_of_vmap(inner, outer, by):
    x, w = without(inner, normal(2, 3, 1, 4, 4, 2), normal(2, 3, 3, 3, 2, 2), 1)
    x, w = without(outer, x, w, 0)

    def compute(conv):
        def each(x, w):
            gradient = jax.vmap(jax.grad(energy(conv), 1), in_axes=inner)
            return jax.vmap(gradient, in_axes=outer)(x, w)

        return quickly(lambda x, w: jax.vjp(each, x, w)[1](each(x, w)))(x, w)

    assert_near(compute(ours), compute(theirs))


def test_vmap_over_nothing(by):
    found = quickly(jax.vmap(ours))(normal(0, 2, 6, 6, 4), normal(0, 3, 3, 4, 5))
    assert found.shape == (0, 2, 6, 6, 5)


def test_vmap_over_a_symbolic_size_is_laxs(by):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 4, 4)
    (size,) = export.symbolic_shape("size")
    symbolic = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

    def compute(conv):
        return jax.vmap(lambda x: (conv(x, w), jax.grad(energy(conv))(x, w)))

    assert_near(
        export.export(jax.jit(compute(ours)))(symbolic).call(x), quickly(compute(theirs))(x)
    )


def test_no_vmap_makes_a_grouped_convolution_on_the_cpu(by):
    x, w = normal(3, 2, 6, 6, 4), normal(3, 3, 3, 4, 6)
    lowered = text(jax.vmap(jax.grad(energy(ours), (0, 1))), x, w)
    groups = set(re.findall(r"(?:feature|batch)_group_count = (\d+)", lowered))
    assert groups == (set() if by == "onednn" else {"1"})


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_over_a_mesh(check_vma, by):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x, w = normal(8, 6, 6, 4), normal(3, 3, 4, 6)

    def spread(conv):
        def loss(w, x):
            return lax.pmean(energy(conv)(x, w), "data")

        specs = {"in_specs": (P(), P("data")), "out_specs": P()}
        step = jax.shard_map(jax.value_and_grad(loss), mesh=mesh, check_vma=check_vma, **specs)
        return quickly(step)(w, x)

    found = spread(ours)
    assert_near(found, spread(theirs))
    if check_vma:  # unchecked, the gradient is each device's own
        whole = quickly(jax.value_and_grad(lambda w: energy(theirs)(x, w) / 4))(w)
        assert_near(found, whole)


@needs_onednn
def test_many_threads_at_once_and_the_same_bits_every_time():
    step = quickly(jax.grad(energy(ours), (0, 1)))
    arguments = [(normal(batch, 8, 8, 8), normal(3, 3, 8, 16)) for batch in range(1, 5)]
    alone = [step(*pair) for pair in arguments]

    def again(index):
        return jax.tree.map(np.array_equal, step(*arguments[index % 4]), alone[index % 4])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(all(same) for same in pool.map(again, range(80)))


@needs_onednn
def test_a_thousand_steps_of_changing_batches_leak_no_memory():
    step = quickly(jax.grad(energy(ours), (0, 1)))
    arguments = [(normal(batch, 16, 16, 16), normal(3, 3, 16, 16)) for batch in range(1, 9)]

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def advance(steps):
        for i in range(steps):
            jax.block_until_ready(step(*arguments[i % 8]))
        return resident()

    early = advance(200)
    assert advance(800) < 1.02 * early
