"""A choice's effect on weights: counts of what is kept, and codebooks of one size."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from compress import quantize
from compress.form import Form
from compress.made import Made
from compress.search import candidate, codebooks
from compress.search.settings import Setting
from compress.stages import latent
from compress.stages.latent import STORED, Quantizer
from tests.compress.search import small

KERNELS = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)


def made(mask=None):
    params = {"a": {"kernel": KERNELS, "bias": np.ones((2, 5), np.float32)}}
    return Made(Form(None), {"params": params}, mask or {}, {})


def quantizer(bits):
    return Quantizer(small_section(), {"a/kernel": bits})


def small_section(**changes):
    from compress.search import spec

    section = spec.from_config(small.config()).compress.sections["quantize"]
    return dataclasses.replace(section, **changes)


def test_what_is_known_of_files_has_no_weight_fewer_for_a_rate():
    sections = {"quantize": small_section(rate=1.0)}
    bench = SimpleNamespace(pipeline=SimpleNamespace(spec=SimpleNamespace(sections=sections)))
    choice = {"a": Setting(density=0.5, bits=2)}
    pruned = candidate.pruned(made(), choice, 1.0)
    stored = candidate.nearest(bench, pruned, choice)
    kernel = np.asarray(quantize.materialize(stored)["params"]["a"]["kernel"])
    assert (kernel != 0).sum() == 20
    assert len(np.unique(kernel)) == 4


def test_pruning_keeps_the_largest_and_goes_its_way_geometrically():
    choice = {"a": Setting(density=0.1)}
    halfway = candidate.pruned(made(), choice, 0.5)
    end = candidate.pruned(halfway, choice, 1.0)
    for pruned, count in ((halfway, round(40 * (4 / 40) ** 0.5)), (end, 4)):
        mask = pruned.mask["a/kernel"]
        kernel = pruned.variables["params"]["a"]["kernel"]
        for r in range(2):
            least = np.sort(np.abs(KERNELS[r]), axis=None)[-count]
            assert mask[r].tolist() == (np.abs(KERNELS[r]) >= least).tolist()
        assert np.array_equal(kernel, np.where(mask, KERNELS, 0))
    assert (end.variables["params"]["a"]["bias"] == 1).all()


def test_what_is_pruned_stays_pruned_and_a_layer_keeps_one_weight():
    mask = np.zeros((2, 8, 5), bool)
    mask[:, 0] = True
    same = candidate.pruned(made({"a/kernel": mask}), {"a": Setting(density=0.5)}, 1.0)
    assert np.array_equal(same.mask["a/kernel"], mask)  # 20 are asked for, 5 are left
    one = candidate.pruned(made(), {"a": Setting(density=0.001)}, 1.0)
    assert one.mask["a/kernel"].sum() == 2
    whole = candidate.pruned(made(), {}, 1.0)
    assert whole.mask["a/kernel"].all()


def test_a_parameters_setting_is_that_of_its_layer():
    choice = {"block": Setting(bits=3), "block/fc": Setting(bits=4)}
    assert candidate.of_path(choice, "block/fc/left/kernel").bits == 4
    assert candidate.of_path(choice, "block/fc2/kernel").bits == 3
    assert candidate.of_path(choice, "blocks/kernel") == Setting()


def test_codebooks_of_one_size_store_what_their_own_would():
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), made().variables)
    mask = {"a/kernel": jnp.asarray(np.abs(KERNELS[0]) > 0.5)}
    for bits in (1, 3):
        begun = codebooks.widened(5, codebooks.begin(quantizer(bits), variables, mask))
        assert begun["params"]["a"]["kernel"].shape == (2**5,)
        stored = codebooks.finish(quantizer(bits), begun)
        own = latent.begin(quantizer(bits), jax.random.key(0), variables, mask)
        expected = latent.finish(quantizer(bits), own)
        assert jax.tree.map(jnp.array_equal, stored, expected) == jax.tree.map(
            lambda _: True, expected
        )


def test_entries_that_no_index_names_have_no_gradient():
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), made().variables)
    mask = {"a/kernel": jnp.ones((8, 5), bool)}
    begun = codebooks.widened(4, codebooks.begin(quantizer(2), variables, mask))

    def loss(params):
        kernel = quantize.materialize(begun[STORED], params)["a"]["kernel"]
        return jnp.sum(kernel * jnp.asarray(KERNELS[1]))

    slopes = jax.grad(loss)(begun["params"])["a"]["kernel"]
    assert slopes.shape == (16,)
    assert (slopes[0], jnp.any(slopes[4:] != 0)) == (0, False)  # entry 0 is that of pruned weights
    assert jnp.all(slopes[1:4] != 0)
